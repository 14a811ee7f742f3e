"""Whether an address is free to listen on, asked before a program that would not say so clearly.

It refuses to reserve anything: between the question and the listening somebody may be quicker.
"""

from __future__ import annotations

import socket

from stacks.hospital.settings import Address


class PortTaken(RuntimeError):
    """Somebody listens there already; the text names the address."""


def refuse_taken(*addresses: Address) -> None:
    """Raise PortTaken if one cannot be listened on: Patroni would answer with a traceback."""
    for place in addresses:
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(place)
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                raise PortTaken(
                    f"cannot listen on {place}: {why}; end what listens there or give another port"
                ) from None
