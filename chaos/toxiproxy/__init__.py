"""The Toxiproxy API: an embedded server (`python -m chaos.toxiproxy`) and a bounded client.

Imports nothing on purpose, so that the server starts quickly and stays apart from the harness.
"""
