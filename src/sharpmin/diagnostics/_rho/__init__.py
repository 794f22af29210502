"""The test of `rho_range`: its runs, the numbers at each radius, the rules, and the text."""
