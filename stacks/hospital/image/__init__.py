"""Makes the one container image that every service of the hospital runs from.

    python -m stacks.hospital.image        (prints the image's tag as its last line)

It refuses to build what is already there, and to need a registry: where none answers, the Debian
base is made here by mmdebstrap.
"""
