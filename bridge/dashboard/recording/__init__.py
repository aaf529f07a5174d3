"""The recording of a run, in its folder: written while it lasts, read when it is over."""
