"""Arithmetic on lists of tensors: `sums` and `tensors` are the interface, `loops` the reference, `foreach` the fast path."""
