"""A watched run: its rows, the statistics of a window of them, and the verdict with its words."""
