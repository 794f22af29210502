"""Arithmetic on lists of tensors: `tensors` is the interface, `loops` the truth, `foreach` the fast way."""
