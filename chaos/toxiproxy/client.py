"""Bounded client of one Toxiproxy server, embedded or real.

It trusts no return value and never `/reset`: what it changed it reads back, and what it cannot
see done within its bound it raises.

Sound in toxiproxy-python 0.1.1 and kept: the endpoints, the JSON shapes, the defaults of a toxic
(stream `downstream`, toxicity 1.0, name `<type>_<stream>`), the three refusals told apart (exists,
not found, invalid). Replaced, and why:

- its host and port are class state: two servers in one process overwrite each other. Here a server
  is a value, several stand side by side;
- its calls have no time-out: a wedged proxy (25 s, then 503) holds the caller. Here every call
  has a deadline for the whole exchange;
- answers of 5xx pass as success, `destroy` and `reset` return a bool that is always true: here
  anything but the wanted status is raised, with what, where and what next;
- toxics never expire: here they carry `expires_in_ms` (the embedded server honours it, a real one
  ignores it; then the lease's deadline does the same).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import quote

STOCK_KINDS = (
    "bandwidth", "latency", "limit_data", "noop", "reset_peer", "slicer", "slow_close", "timeout",
)  # fmt: skip
CALL_S = 2.0  # one exchange with the API, connecting included

Refusal = Literal["exists", "not found", "invalid", "failed", "silent"]


class Ask(Protocol):
    """One bounded HTTP exchange: status and body, or OSError (chaos.reaper.ask is one)."""

    def __call__(
        self, host: str, port: int, method: str, path: str, body: object, bound_s: float
    ) -> tuple[int, bytes]: ...


class ToxiproxyError(RuntimeError):
    """A call that did not do what it should: what happened, where, and what to do next."""

    def __init__(self, text: str, refusal: Refusal) -> None:
        super().__init__(text)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class ToxicValue:
    """One toxic as the API shows it."""

    name: str
    type: str
    attributes: Mapping[str, int | str] = field(default_factory=dict)
    stream: str = "downstream"
    toxicity: float = 1.0


@dataclass(frozen=True, slots=True)
class ProxyValue:
    """One proxy as the API shows it; addresses are `host:port`."""

    name: str
    listen: str
    upstream: str
    enabled: bool = True
    toxics: tuple[ToxicValue, ...] = ()
    closed_by: tuple[str, ...] = ()  # the embedded server only


@dataclass(frozen=True, slots=True)
class Toxiproxy:
    """One server. Every method raises ToxiproxyError within `bound_s` per exchange."""

    host: str
    port: int
    ask: Ask
    bound_s: float = CALL_S

    def version(self) -> str:
        """The server's version text."""
        return str(self._call("GET", "/version", 200)["version"])

    def proxies(self) -> dict[str, ProxyValue]:
        """All proxies by name."""
        return {name: _proxy(value) for name, value in self._call("GET", "/proxies", 200).items()}

    def proxy(self, name: str) -> ProxyValue:
        """One proxy with its toxics."""
        return _proxy(self._call("GET", _path(name), 200))

    def populate(self, proxies: Iterable[ProxyValue]) -> None:
        """Create these proxies and read back that all are there as wanted."""
        wanted = list(proxies)
        body = [
            {"name": p.name, "listen": p.listen, "upstream": p.upstream, "enabled": p.enabled}
            for p in wanted
        ]
        self._call("POST", "/populate", 201, body)
        there = self.proxies()
        for proxy in wanted:
            seen = there.get(proxy.name)
            if seen is None or (seen.listen, seen.upstream, seen.enabled) != (
                proxy.listen, proxy.upstream, proxy.enabled,
            ):  # fmt: skip
                raise self._wrong(f"proxy {proxy.name} is not as asked for: {seen}", "failed")

    def create(self, proxy: ProxyValue) -> None:
        """Create one proxy."""
        body = {"name": proxy.name, "listen": proxy.listen, "upstream": proxy.upstream}
        self._call("POST", "/proxies", 201, {**body, "enabled": proxy.enabled})

    def delete(self, name: str) -> None:
        """Delete one proxy; one that is not there is deleted."""
        self._call("DELETE", _path(name), (204, 404))

    def set_enabled(
        self, name: str, enabled: bool, expires_s: float = 0.0, by: str = ""
    ) -> None:  # fmt: skip
        """Open or close a proxy and read it back; `expires_s` > 0 opens a closed one after that.

        With `by` one of several callers closes it or lets go: it opens when the last has let go
        (embedded server; a real one knows no callers: there the first opens it for all).
        """
        body: dict[str, object] = {"enabled": enabled, **({"by": by} if by else {})}
        if expires_s > 0 and not enabled:
            body["expires_in_ms"] = round(expires_s * 1000)
        seen = _proxy(self._call("POST", _path(name), 200, body))
        if seen.enabled is not enabled and not (enabled and set(seen.closed_by) - {by}):
            raise self._wrong(f"proxy {name} did not change to enabled={enabled}", "failed")

    def add_toxic(self, proxy: str, toxic: ToxicValue, expires_s: float = 0.0) -> None:
        """Put a toxic on a proxy and check the answer; it goes by itself after `expires_s` > 0."""
        body: dict[str, object] = {
            "name": toxic.name,
            "type": toxic.type,
            "stream": toxic.stream,
            "toxicity": toxic.toxicity,
            "attributes": dict(toxic.attributes),
        }
        if expires_s > 0:
            body["expires_in_ms"] = round(expires_s * 1000)
        seen = _toxic(self._call("POST", f"{_path(proxy)}/toxics", 200, body))
        if seen.type != toxic.type or not toxic.attributes.items() <= seen.attributes.items():
            raise self._wrong(f"toxic {toxic.name} on {proxy} became {seen}", "failed")

    def toxics(self, proxy: str) -> tuple[ToxicValue, ...]:
        """The toxics that are on a proxy now."""
        return tuple(_toxic(t) for t in self._call("GET", f"{_path(proxy)}/toxics", 200))

    def kinds(self) -> tuple[str, ...]:
        """The types of toxic that the server knows; a real one knows Toxiproxy's."""
        answer = self._call("GET", "/kinds", (200, 404))
        return tuple(map(str, answer)) if isinstance(answer, list) else STOCK_KINDS

    def records(self, proxy: str) -> dict[str, Mapping[str, Any]]:
        """What the toxics that speak protocols did, by name (embedded server only)."""
        return dict(self._call("GET", f"{_path(proxy)}/records", 200))

    def remove_toxic(self, proxy: str, name: str) -> None:
        """Remove one toxic; one that is not there is removed."""
        self._call("DELETE", f"{_path(proxy)}/toxics/{quote(name, safe='')}", (204, 404))

    def heal(self, wanted: ProxyValue) -> str:
        """Make a proxy clean and open, and see it: remove toxics, else delete and recreate it.

        Returns in words which rung of the ladder did it. Raises when even the last one did not:
        then the server itself must be started anew.
        """
        try:
            for toxic in self.toxics(wanted.name):
                self.remove_toxic(wanted.name, toxic.name)
            self.set_enabled(wanted.name, True)
            if self._clean(wanted):
                return "removed its toxics"
        except ToxiproxyError as error:
            if error.refusal == "silent" and "nothing listens" in str(error):
                raise
        self.delete(wanted.name)
        self.create(wanted)
        if not self._clean(wanted):
            raise self._wrong(f"proxy {wanted.name} is not clean after its recreation", "failed")
        return "deleted and recreated it"

    def _clean(self, wanted: ProxyValue) -> bool:
        seen = self.proxy(wanted.name)
        return seen.enabled and not seen.toxics and seen.upstream == wanted.upstream

    def _call(
        self, method: str, path: str, wanted: int | tuple[int, ...], body: object = None
    ) -> Any:
        try:
            status, content = self.ask(self.host, self.port, method, path, body, self.bound_s)
        except OSError as error:
            raise ToxiproxyError(
                f"toxiproxy at {self.host}:{self.port} did not do {method} {path}: {error}; "
                "look at its log, the reaper will recreate the proxy or take the stack down",
                "silent",
            ) from error
        if status not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            said = content[:300].decode("utf-8", "replace").strip()
            text = f"{method} {path} answered {status} {said}"
            kinds: dict[int, Refusal] = {409: "exists", 404: "not found", 400: "invalid"}
            raise self._wrong(text, kinds.get(status, "failed"))
        if status in (204, 404) or not content:
            return {}
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._wrong(f"{method} {path} answered no JSON", "failed") from error

    def _wrong(self, text: str, refusal: Refusal) -> ToxiproxyError:
        return ToxiproxyError(
            f"toxiproxy at {self.host}:{self.port}: {text}; see what it holds with "
            f"`curl http://{self.host}:{self.port}/proxies`",
            refusal,
        )


def _path(name: str) -> str:
    return "/proxies/" + quote(name, safe="")


def _toxic(value: Mapping[str, Any]) -> ToxicValue:
    stream = str(value.get("stream", "downstream"))
    kind = str(value["type"])
    return ToxicValue(
        name=str(value.get("name", f"{kind}_{stream}")),
        type=kind,
        attributes=dict(value.get("attributes") or {}),
        stream=stream,
        toxicity=float(value.get("toxicity", 1.0)),
    )


def _proxy(value: Mapping[str, Any]) -> ProxyValue:
    return ProxyValue(
        name=str(value["name"]),
        listen=str(value["listen"]),
        upstream=str(value["upstream"]),
        enabled=bool(value["enabled"]),
        toxics=tuple(_toxic(t) for t in value.get("toxics") or ()),
        closed_by=tuple(map(str, value.get("closed_by") or ())),
    )
