"""The embedded proxy without what Toxiproxy does not have: a stand-in for a real server."""

from __future__ import annotations

from chaos.toxiproxy import __main__ as program
from chaos.toxiproxy import api
from chaos.toxiproxy.toxics import KINDS, SPEAKING

for kind in SPEAKING:
    del KINDS[kind.KIND]
_found = api.Api._find


def _find(self: api.Api, method: str, path: str) -> object:
    return _found(self, method, "/nothing" if path == "/kinds" else path)


api.Api._find = _find  # type: ignore[assignment,method-assign]

if __name__ == "__main__":
    raise SystemExit(program.main())
