"""What administration reads from a request: resources, conditions, versions; or a Refusal.

It refuses everything that it would otherwise have to ignore.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import msgspec

from stacks.hospital import fhir
from stacks.hospital.register_rows import ENCOUNTER_EVENTS
from stacks.hospital.web import Refusal, Request

_VERSION = re.compile(r'W/"(\d{1,9})"')


def decoded(data: bytes, type_: str) -> fhir.Resource:
    try:
        return fhir.decode(data, type_)
    except fhir.Invalid as error:
        raise Refusal(400, "invalid", str(error)) from None


def encounter(data: bytes) -> fhir.Encounter:
    encounter = decoded(data, "Encounter")
    assert isinstance(encounter, fhir.Encounter)
    if encounter.class_.code not in ENCOUNTER_EVENTS:
        given, known = encounter.class_.code, ", ".join(ENCOUNTER_EVENTS)
        raise Refusal(400, "value", f"$.class.code: {given!r} is not one of {known}")
    return encounter


def same_key(request: Request, system: str, key: str) -> None:
    """If-None-Exist must ask for the identifier that the resource itself has."""
    wish = request.headers.get("if-none-exist")
    if wish is None:
        return
    given = parse_qs(wish.lstrip("?"))
    if given != {"identifier": [f"{system}|{key}"]}:
        raise Refusal(
            400, "value", f"If-None-Exist is {wish[:200]!r}; give identifier={system}|{key}"
        )


def addressed(request: Request, resource: fhir.Resource) -> tuple[str, int]:
    """The key in the path, equal to the body's, and the version that If-Match names."""
    key, own = request.path_params["key"], fhir.key_of(resource)
    if key != own:
        raise Refusal(400, "invalid", f"the address says {key[:64]!r}, the resource {own!r}")
    wish = request.headers.get("if-match")
    if wish is None:
        raise Refusal(428, "required", 'If-Match: W/"<version>" is required; read it first')
    match = _VERSION.fullmatch(wish.strip())
    if match is None:
        raise Refusal(400, "value", f'If-Match is {wish[:40]!r}; give W/"<version>"')
    return key, int(match.group(1))


class _Parameter(msgspec.Struct):
    name: str
    valueString: str | None = None


class _Parameters(msgspec.Struct, tag_field="resourceType", tag="Parameters"):
    parameter: list[_Parameter]


def merge_source(data: bytes) -> str:
    try:
        given = msgspec.json.decode(data, type=_Parameters).parameter
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "invalid", f"not a Parameters resource: {error}") from None
    sources = [one.valueString for one in given if one.name == "source" and one.valueString]
    if len(sources) != 1:
        raise Refusal(400, "invalid", "$.parameter: exactly one `source` with a valueString")
    return sources[0]
