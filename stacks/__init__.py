"""Stacks that the harness can raise; the harness itself never imports this package."""
