"""Benchmarks: what is fast enough, measured; one JSON line per figure. Never timed tests."""
