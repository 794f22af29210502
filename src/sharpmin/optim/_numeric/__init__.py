"""Arithmetic on lists of tensors: `sums` and `tensors` are the interface, `loops` the truth, `foreach` the fast way."""
