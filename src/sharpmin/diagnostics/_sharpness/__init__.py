"""Probes of a model where it stands; they only look."""
