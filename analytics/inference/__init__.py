"""Networks that answer on the stream: versions loaded once a process, swapped between batches."""
