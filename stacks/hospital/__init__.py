"""The mock hospital: one module per system, each runnable by hand as `python -m stacks.hospital.X`.

The services refuse to know anything of the harness: what they need is in their environment.
"""
