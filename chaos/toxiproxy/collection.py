"""All proxies of one server and the calls that change them; knows nothing of HTTP.

Every call either does what it was asked or raises ApiError having changed nothing; populate and
reset, which cover several proxies, do all that can be done and say what could not.
"""

from __future__ import annotations

from collections.abc import Iterable

from chaos.toxiproxy.bodies import ProxyBody, ToxicBody, attributes, require
from chaos.toxiproxy.errors import (
    INVALID_STREAM,
    INVALID_TOXIC_TYPE,
    PROXY_EXISTS,
    PROXY_NOT_FOUND,
    TOXIC_EXISTS,
    TOXIC_NOT_FOUND,
    ApiError,
)
from chaos.toxiproxy.proxy import Proxy
from chaos.toxiproxy.resolver import Pending
from chaos.toxiproxy.site import Site
from chaos.toxiproxy.toxic import DOWNSTREAM, UPSTREAM, NamedToxic
from chaos.toxiproxy.toxics import KINDS


class Collection:
    """Proxies by name."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.proxies: dict[str, Proxy] = {}

    def find(self, name: str) -> Proxy:
        """The proxy of this name; raises ApiError 404."""
        proxy = self.proxies.get(name)
        if proxy is None:
            raise ApiError(*PROXY_NOT_FOUND)
        return proxy

    def create(self, body: ProxyBody) -> Proxy:
        """Add a proxy and start it unless it is created disabled."""
        require(body)
        if body.name in self.proxies:
            raise ApiError(*PROXY_EXISTS)
        return self._made(body)

    def _made(self, body: ProxyBody) -> Proxy:
        """A new proxy, in the place of one with the same name if there is one."""
        self._check_expiry(body)
        proxy = Proxy(self.site, body.name, body.listen or "", body.upstream or "")
        self._check_wildcard(proxy.listen)
        if body.enabled is not False:
            proxy.start()
        replaced = self.proxies.get(body.name)
        if replaced is not None:
            replaced.remove()
        self.proxies[body.name] = proxy
        if body.enabled is False:
            proxy.close_for(body.by, body.expires_in_ms)
        return proxy

    def _check_wildcard(self, listen: str) -> None:
        """All interfaces are refused even while disabled; other faults show when it starts."""
        try:
            self.site.listen_rule.resolve(listen)
        except ApiError:
            raise
        except Exception:
            return

    @staticmethod
    def _check_expiry(body: ProxyBody) -> None:
        if body.expires_in_ms is not None and body.enabled is not False:
            raise ApiError(400, 'expires_in_ms of a proxy goes with "enabled": false only')

    def update(self, name: str, body: ProxyBody) -> Proxy:
        """Change a proxy; what the body does not say stays."""
        proxy = self.find(name)
        self._check_expiry(body)
        if body.by:
            return self._open_or_close(proxy, body)
        listen = proxy.listen if body.listen is None else body.listen
        self._check_wildcard(listen)
        proxy.update(
            listen,
            proxy.upstream if body.upstream is None else body.upstream,
            enabled=proxy.enabled if body.enabled is None else body.enabled,
        )
        if body.expires_in_ms is not None or (body.enabled is False and not proxy.closers.names):
            proxy.close_for("", body.expires_in_ms)
        return proxy

    @staticmethod
    def _open_or_close(proxy: Proxy, body: ProxyBody) -> Proxy:
        """One of several callers closes it, or lets go; it opens when the last has let go."""
        if body.enabled is None or body.listen is not None or body.upstream is not None:
            raise ApiError(400, "by goes with enabled, and with no address")
        if body.enabled:
            proxy.open_for(body.by)
        else:
            proxy.close_for(body.by, body.expires_in_ms)
        return proxy

    def delete(self, name: str) -> None:
        """Stop and forget a proxy."""
        self.find(name).remove()
        del self.proxies[name]

    def populate(self, bodies: list[ProxyBody], done: list[Proxy]) -> None:
        """Create or replace proxies in turn, adding each to `done`; raises at the first failure.

        One with the same addresses is left alone, toxics and all.
        """
        self._know_names(bodies)
        for body in bodies:
            existing = self.proxies.get(body.name)
            if existing is not None:
                self._check_wildcard(body.listen or "")
                if not existing.differs(body.listen or "", body.upstream or ""):
                    done.append(existing)
                    continue
                done.append(self._replaced(existing, body))
            else:
                done.append(self._made(body))

    def _replaced(self, existing: Proxy, body: ProxyBody) -> Proxy:
        """A new proxy in the place of `existing`, which stays as it is if that fails."""
        try:
            return self._made(body)
        except ApiError as error:
            if body.enabled is False or not existing.makes_room_for(body.listen or ""):
                raise error
        try:
            return self._made(body)
        except ApiError:
            existing.start()
            raise

    def _know_names(self, bodies: Iterable[ProxyBody]) -> None:
        """Look up every name before anything changes; raises Pending."""
        unknown: list[str] = []
        for body in bodies:
            try:
                self.site.listen_rule.resolve(body.listen or "")
            except Pending as pending:
                unknown += pending.hosts
            except Exception:
                continue  # said when it is this proxy's turn
        if unknown:
            raise Pending(tuple(unknown))

    def reset(self) -> None:
        """Remove every toxic and enable every proxy; raises after all have had their turn."""
        failed: ApiError | Pending | None = None
        for proxy in tuple(self.proxies.values()):
            for toxic in tuple(proxy.toxics):
                proxy.drop(toxic)
            try:
                proxy.start()
            except (ApiError, Pending) as error:
                failed = error
        if failed is not None:
            raise failed

    def close(self) -> None:
        """Stop everything."""
        for proxy in self.proxies.values():
            proxy.remove()

    # ------------------------------------------------------------------ toxics

    def find_toxic(self, proxy_name: str, name: str) -> tuple[Proxy, NamedToxic]:
        """A proxy and one of its toxics; raises ApiError 404."""
        proxy = self.find(proxy_name)
        toxic = proxy.find(name)
        if toxic is None:
            raise ApiError(*TOXIC_NOT_FOUND)
        return proxy, toxic

    def create_toxic(self, proxy: Proxy, body: ToxicBody) -> NamedToxic:
        """Add a toxic. Checked in the reference's order: stream, type, name, attributes."""
        if body.stream.casefold() not in (UPSTREAM, DOWNSTREAM):
            raise ApiError(*INVALID_STREAM)
        kind = KINDS.get(body.type)
        if kind is None:
            raise ApiError(*INVALID_TOXIC_TYPE)
        name = body.name or f"{body.type}_{body.stream}"
        if proxy.find(name) is not None:
            raise ApiError(*TOXIC_EXISTS)
        toxic = NamedToxic(
            name=name,
            stream=body.stream,
            toxicity=1.0 if body.toxicity is None else body.toxicity,
            attributes=attributes(kind, None, body.attributes),
        )
        proxy.add(toxic)
        self._expire(proxy, toxic, body.expires_in_ms)
        return toxic

    def change_toxic(self, proxy: Proxy, toxic: NamedToxic, body: ToxicBody) -> None:
        """Change toxicity and attributes, all or none; every open link rolls again."""
        toxic.attributes = attributes(type(toxic.attributes), toxic.attributes, body.attributes)
        if body.toxicity is not None:
            toxic.toxicity = body.toxicity
        proxy.changed(toxic)
        self._expire(proxy, toxic, body.expires_in_ms)

    def _expire(self, proxy: Proxy, toxic: NamedToxic, delay_ms: int | None) -> None:
        if delay_ms is None:
            return
        if toxic.expiry is not None:
            toxic.expiry.cancel()
        toxic.expiry = self.site.loop.after_ms(delay_ms, lambda: proxy.drop(toxic))
