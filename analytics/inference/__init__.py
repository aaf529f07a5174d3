"""Networks that answer on the stream."""
