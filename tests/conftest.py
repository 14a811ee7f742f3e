"""What all tests share."""

from __future__ import annotations

# Experiments with outcomes of every kind, some broken on purpose: tests/test_cli.py runs them.
collect_ignore = ["light_experiments"]
