"""Read-only probes of a model at its present weights."""
