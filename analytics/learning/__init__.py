"""Networks that learn from the stream: models, buffers, training, the registry of versions."""
