"""What a dashboard remembers of a run, each kind in a store of bounded size; free of I/O."""
