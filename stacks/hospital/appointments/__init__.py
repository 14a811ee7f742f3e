"""Scheduling and the channels that tell patients; refuses to know the harness."""
