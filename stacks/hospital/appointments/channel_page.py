"""The hospital's public status page: what is cancelled, what goes on, whom to call, as of when.

It refuses to name a patient, to load anything from elsewhere, and to say that a service goes on
whose appointments were called off.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from html import escape
from typing import Any

import msgspec

from stacks.hospital.appointments.channel_book import CANCELLED, Feed, Said
from stacks.hospital.pages import instant

CALL_CENTRE = "02 000 11 11"  # fictitious, as everything here
EMERGENCY = "112"
ALWAYS_ON = ("emergencies",)
PROTECTED = (
    "chemotherapy", "dialysis", "radiotherapy", "vital-surgery", "inpatient-exam",
)  # fmt: skip


class CalledOff(msgspec.Struct, frozen=True):
    """One service of which a decision called appointments off; instants in RFC 3339."""

    service: str
    decision: str
    appointments: int
    first_at: str
    last_at: str
    known_at: str


class Status(msgspec.Struct, frozen=True):
    """What the website says of the hospital as a whole."""

    activity: str
    """normal, reduced, or unknown while nothing was heard."""
    as_of: str | None
    now: str
    cancelled: list[CalledOff]
    goes_on: list[str]
    call: dict[str, str]
    words: dict[str, int]
    """How many appointments the website says confirmed, moved, cancelled of."""


def status_of(said: Iterable[Said], feed: Feed) -> Status:
    """The status page's content from all that is said now."""
    groups: dict[tuple[str, str], list[Said]] = {}
    words: dict[str, int] = {}
    for one in said:
        words[one.word] = words.get(one.word, 0) + 1
        if one.word == CANCELLED and one.decision:
            groups.setdefault((one.decision, one.service), []).append(one)
    cancelled = [_called_off(*key, members) for key, members in sorted(groups.items())]
    hit = {one.service for one in cancelled}
    return Status(
        activity="unknown" if not feed.last_at else "reduced" if cancelled else "normal",
        as_of=instant(feed.last_at) if feed.last_at else None,
        now=instant(time.time()),
        cancelled=cancelled,
        goes_on=[*ALWAYS_ON, *(name for name in PROTECTED if name not in hit)],
        call={"questions": CALL_CENTRE, "emergency": EMERGENCY},
        words=words,
    )


def _called_off(decision: str, service: str, members: list[Said]) -> CalledOff:
    times = [one.at for one in members]
    known_at = max(one.known_at for one in members)
    return CalledOff(
        service, decision, len(members), instant(min(times)), instant(max(times)),
        instant(known_at),
    )  # fmt: skip


_STYLE = """
:root{color-scheme:light dark;--line:#8885;--warn:#b3261e;--good:#1b6e3c}
@media (prefers-color-scheme:dark){:root{--warn:#ff8a80;--good:#7ddc9f}}
*{box-sizing:border-box}
body{font:17px/1.5 system-ui,sans-serif;margin:0 auto;max-width:42rem;padding:1rem}
h1{font-size:1.5rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.15rem;margin:1.5rem 0 .25rem}
.activity{border-left:.4rem solid var(--good);padding:.5rem .8rem;background:#8881}
.reduced,.unknown{border-color:var(--warn)}
ul{padding-left:1.2rem;margin:.25rem 0}
li{margin:.35rem 0}
a.call{display:block;border:1px solid var(--line);border-radius:.5rem;padding:.7rem;margin:.5rem 0;
text-decoration:none;color:inherit;font-weight:600}
small{opacity:.8}
"""
_HEADLINE = {
    "normal": "The hospital works as usual.",
    "reduced": "The hospital works with reduced activity.",
    "unknown": "We have no news from our scheduling yet. If in doubt, call us.",
}


def html_of(status: Status) -> str:
    """The page as one self-contained HTML document, readable on a telephone."""
    cancelled = "".join(_cancelled_item(one) for one in status.cancelled)
    nothing = "<p>Nothing that we know of.</p>"
    goes_on = "".join(f"<li>{escape(_plain(name))}</li>" for name in status.goes_on)
    as_of = _moment(status.as_of) if status.as_of else "no news yet"
    number = status.call["questions"]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hospital: state of activity</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>State of activity</h1>
<p class="activity {status.activity}"><strong>{_HEADLINE[status.activity]}</strong><br>
<small>News from scheduling as of {as_of}. Page made at {_moment(status.now)}.</small></p>
<h2>Cancelled</h2>
{f"<ul>{cancelled}</ul>" if cancelled else nothing}
<h2>Goes on</h2>
<ul>{goes_on}</ul>
<h2>Whom to call</h2>
<a class="call" href="tel:{escape(status.call["emergency"])}">In an emergency:
{escape(status.call["emergency"])}</a>
<a class="call" href="tel:{escape(number.replace(" ", ""))}">Questions about your appointment:
{escape(number)}</a>
<p>The call centre answers questions and does not rebook. If your appointment was cancelled, the
hospital calls you with a new date: you need not call.</p>
</body>
</html>
"""


def _cancelled_item(one: CalledOff) -> str:
    return (
        f"<li><strong>{escape(_plain(one.service))}</strong>: {one.appointments} appointments"
        f" from {_moment(one.first_at)} to {_moment(one.last_at)}"
        f" <small>(known since {_moment(one.known_at)})</small></li>"
    )


def _plain(service: str) -> str:
    return service.replace("-", " ")


def _moment(text: str) -> str:
    """An RFC 3339 instant for people; a machine still finds the exact one."""
    day, _, clock = text.partition("T")
    return f'<time datetime="{escape(text)}">{escape(day)} {escape(clock[:8])} UTC</time>'


def as_data(status: Status) -> dict[str, Any]:
    """The same content as JSON."""
    data: dict[str, Any] = msgspec.to_builtins(status)
    return data
