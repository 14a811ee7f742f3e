"""What a request to the record asks for, and the marks on its answer.

It refuses what it does not understand (conditions, versions, numbers) instead of ignoring it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from stacks.hospital import fhir
from stacks.hospital.ehr.store import Stored
from stacks.hospital.web import Refusal, Request, Response, answer

STALE = '110 - "read from standby: it may lag the primary by moments"'


def if_none_exist(header: str | None, type_: str) -> str | None:
    """The key of `If-None-Exist: identifier=<system>|<value>`, or None without the header."""
    if header is None:
        return None
    return identifier(
        header.removeprefix("identifier="), type_, "If-None-Exist", header.startswith("identifier=")
    )


def identifier(text: str, type_: str, where: str, known: bool = True) -> str:
    system, bar, value = text.partition("|")
    if not known or not bar or system != fhir.KEY_SYSTEMS[type_]:
        raise Refusal(
            400,
            "value",
            f"{where}: of {type_} only identifier="
            f"{fhir.KEY_SYSTEMS[type_]}|<value> can be asked for",
        )
    return fhir.key(value, where)


def if_match(header: str | None) -> int:
    """The version of `If-Match: W/"n"`; 428 without it, 400 if it is malformed."""
    if header is None:
        raise Refusal(428, "required", 'If-Match is missing; send If-Match: W/"<version read>"')
    found = re.fullmatch(r'W/"(\d{1,9})"', header.strip())
    if found is None:
        raise Refusal(400, "value", f'If-Match: {header[:40]!r} is not W/"<version>"')
    return int(found[1])


def number(text: str | None, name: str, default: int, most: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise Refusal(400, "value", f"{name}={text[:40]!r} is not a number")
    return min(int(text), most)


def resource_answer(
    stored: Stored, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    marks = {
        "ETag": f'W/"{stored.version}"',
        "Location": f"/fhir/{stored.type}/{stored.key}",
    }
    return answer(stored.body.encode(), status, marks | dict(headers or {}))


def served_by(source: str) -> dict[str, str]:
    marks = {"X-Served-By": source}
    return marks | {"Warning": STALE} if source == "standby" else marks


def type_of(request: Request) -> str:
    type_: str = request.path_params["type"]
    if type_ not in fhir.TYPES:
        raise Refusal(
            404,
            "not-supported",
            f"the record holds no {type_[:40]!r}; it holds {', '.join(fhir.TYPES)}",
        )
    return type_
