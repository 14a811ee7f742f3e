"""What the API reads from request bodies: pure functions from JSON to values, or ApiError 400."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chaos.toxiproxy import gojson
from chaos.toxiproxy.errors import ApiError, bad_body
from chaos.toxiproxy.toxic import attribute_names, attributes_of
from chaos.toxiproxy.toxics.stage import MAX_MS, Toxic

EXPIRES = "expires_in_ms"
_PROXY_TYPE = "toxiproxy.Proxy"
_TOXIC_TYPE = "toxics.ToxicWrapper"
_LIST_TYPE = '[]struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'


@dataclass
class ProxyBody:
    """A proxy as a client writes it; None is "not said"."""

    name: str = ""
    listen: str | None = None
    upstream: str | None = None
    enabled: bool | None = None
    expires_in_ms: int | None = None
    by: str = ""  # who closes it, or lets go


@dataclass
class ToxicBody:
    """A toxic as a client writes it; None is "not said"."""

    name: str = ""
    type: str = ""
    stream: str = "downstream"
    toxicity: float | None = None
    attributes: tuple[gojson.Pairs, ...] = ()
    expires_in_ms: int | None = None


def proxy_body(body: bytes) -> ProxyBody:
    """One proxy."""
    return _proxy(gojson.read(body), _PROXY_TYPE, "Proxy")


def proxy_bodies(body: bytes) -> list[ProxyBody]:
    """A list of proxies, each with name and upstream."""
    value = gojson.read(body)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _not_a(value, _LIST_TYPE)
    proxies = [_proxy(item, _LIST_TYPE.removeprefix("[]"), "") for item in value]
    for number, proxy in enumerate(proxies, 1):
        require(proxy, f" at proxy {number}")
    return proxies


def require(proxy: ProxyBody, where: str = "") -> None:
    """A new proxy needs a name and an upstream."""
    for field in ("name", "upstream"):
        if not getattr(proxy, field):
            raise ApiError(400, f"missing required field: {field}{where}")


def toxic_body(body: bytes) -> ToxicBody:
    """One toxic; its attributes are read later, when its type is known."""
    value = gojson.read(body)
    toxic = ToxicBody()
    names = ("name", "type", "stream", "toxicity", "attributes", EXPIRES)
    for key, item in _fields(value, _TOXIC_TYPE, names):
        if key == "toxicity":
            toxic.toxicity = gojson.float32_of(item, "ToxicWrapper.toxicity")
        elif key == "attributes":
            if not isinstance(item, gojson.Pairs):
                raise gojson.mismatch(item, "ToxicWrapper.attributes", "toxics.NoopToxic")
            toxic.attributes += (item,)
        elif key == EXPIRES:
            toxic.expires_in_ms = _expiry(item)
        else:
            setattr(toxic, key, gojson.text_of(item, f"ToxicWrapper.{key}"))
    return toxic


def toxic_change(body: bytes) -> ToxicBody:
    """A change of a toxic: toxicity, attributes and expiry; everything else is ignored."""
    value = gojson.read(body)
    toxic = ToxicBody()
    for key, item in _fields(value, "struct", ("toxicity", "attributes", EXPIRES)):
        if key == "toxicity":
            toxic.toxicity = gojson.float32_of(item, ".toxicity")
        elif key == EXPIRES:
            toxic.expires_in_ms = _expiry(item)
        else:
            if not isinstance(item, gojson.Pairs):
                raise gojson.mismatch(item, ".attributes", "toxics.Toxic")
            toxic.attributes += (item,)
    return toxic


def attributes(kind: type[Toxic], old: Toxic | None, said: tuple[gojson.Pairs, ...]) -> Toxic:
    """The attributes of a toxic after what was said: a new value, or ApiError 400."""
    names = attribute_names(kind)
    values = attributes_of(old if old is not None else kind())
    texts: dict[str, int] = getattr(kind, "TEXTS", {})  # longest, by name
    for pairs in said:
        for name, item in pairs.fields(*names):
            if name in texts:
                text = gojson.text_of(item, f"{kind.__name__}Toxic.attributes.{name}")
                if len(text) > texts[name]:
                    raise ApiError(400, f"{name} must have at most {texts[name]} characters")
                values[name] = text
                continue
            number = gojson.integer_of(item, f"{kind.__name__}Toxic.attributes.{name}")
            if not 0 <= number <= kind.LIMITS[name]:
                raise ApiError(400, f"{name} must be 0 to {kind.LIMITS[name]}, got {number}")
            values[name] = number
    toxic = kind(**values)
    try:
        toxic.check()
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    return toxic


def _proxy(value: Any, type_name: str, field_prefix: str) -> ProxyBody:
    proxy = ProxyBody()
    names = ("name", "listen", "upstream", "enabled", EXPIRES, "by")
    for key, item in _fields(value, type_name, names):
        if key == EXPIRES:
            proxy.expires_in_ms = _expiry(item)
        elif key == "enabled":
            proxy.enabled = gojson.flag_of(item, f"{field_prefix}.enabled")
        else:
            setattr(proxy, key, gojson.text_of(item, f"{field_prefix}.{key}"))
    return proxy


def _fields(value: Any, type_name: str, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, gojson.Pairs):
        raise _not_a(value, type_name)
    return list(value.fields(*names))


def _not_a(value: Any, type_name: str) -> ApiError:
    return bad_body(
        f"json: cannot unmarshal {gojson.kind(value)} into Go value of type {type_name}"
    )


def _expiry(value: Any) -> int:
    number = gojson.integer_of(value, EXPIRES)
    if not 1 <= number <= MAX_MS:
        raise ApiError(400, f"{EXPIRES} must be 1 to {MAX_MS}, got {number}")
    return number
