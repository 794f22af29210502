"""Checks shared by the suite and `sharpmin.check`: one function for each property of a `Scene`."""
