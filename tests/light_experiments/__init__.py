"""Experiments on the light stack: what the tests of the command line and of the plugin run."""
