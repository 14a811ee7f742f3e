"""What an operator can do at the consoles of services, by name; refuses to do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AT_CONSOLE: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "read-only": ("scheduling", "/mode", {"mode": "read-only"}),
    "open": ("scheduling", "/mode", {"mode": "open"}),
    "backup": ("scheduling", "/backup", {}),
    "restore": ("scheduling", "/restore", {}),
    "bypass-on": ("dicom-router", "/bypass", {"on": True}),
    "bypass-off": ("dicom-router", "/bypass", {"on": False}),
}
"""(service, path, body); see traffic/crisis.py."""
