"""Imaging of the mock hospital: scanners, router, archives, worklist; one program per system.

It refuses to know anything of the harness.
"""
