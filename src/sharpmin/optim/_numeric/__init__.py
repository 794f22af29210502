"""Arithmetic on lists of tensors: `tensors` is the truth, `foreach` the fast path, `shards` for DTensor."""
