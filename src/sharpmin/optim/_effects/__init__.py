"""What a step touches besides weights and gradients: buffers, random states, other optimizers; and what it tells."""
