"""What the optimizer and the laboratory share: rho schedules, references, errors. No I/O, no `torch.nn`."""
