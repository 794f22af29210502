"""A watched run: its rows, the statistics of a window of blocks, and the verdict with its text."""
