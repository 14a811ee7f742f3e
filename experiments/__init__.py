"""The experiments: each outage a story that pytest and the command line can run."""
