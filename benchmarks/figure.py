"""One measured figure as one JSON line: name, value, unit, the target and whether it was met."""

from __future__ import annotations

import json


def tell(
    name: str,
    value: float,
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    **more: object,
) -> None:
    """Print the figure; `at_most` or `at_least` is its target."""
    line: dict[str, object] = {"figure": name, "value": round(value, 3), "unit": unit}
    if at_most is not None:
        line |= {"at_most": at_most, "met": value <= at_most}
    if at_least is not None:
        line |= {"at_least": at_least, "met": value >= at_least}
    print(json.dumps({**line, **more}), flush=True)


def skip(name: str, reason: str) -> None:
    """Print that a figure could not be measured here, and why."""
    print(json.dumps({"figure": name, "skipped": reason}), flush=True)
