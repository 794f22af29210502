"""Side effects of a step besides weights and gradients: buffers, random states, other optimizers; and its report."""
