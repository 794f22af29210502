"""A test over a grid of radii: its runs, what they show at each radius, the rules, and the words."""
