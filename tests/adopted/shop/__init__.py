"""A small Compose project that knows nothing of the harness, and experiments on it."""
