"""Mutation testing: change the source in one small place, and see whether a test notices."""
