"""What an operator can do at the consoles of services, by name; refuses to do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AT_CONSOLE: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "read-only": ("scheduling", "/mode", {"mode": "read-only"}),
    "open": ("scheduling", "/mode", {"mode": "open"}),
    "backup": ("scheduling", "/backup", {}),
    "restore": ("scheduling", "/restore", {}),
    "declare": (
        "incident", "/incidents", {"by": "crisis cell", "reason": "several systems do not answer"},
    ),
    "announce-billing-stop": (
        "incident", "/incidents",
        {"by": "crisis cell", "kind": "planned", "services": ["billing"], "minutes": 120,
         "reason": "back-office applications are stopped on purpose to spare the storage"},
    ),
    "ask-all-clear": ("incident", "/normal", {"by": "crisis cell"}),
    "fail-back": ("incident", "/failback", {"by": "crisis cell", "node": "ehr-db-a"}),
    "rebuild-spare": ("incident", "/rebuild", {"by": "crisis cell", "node": "ehr-db-b"}),
    "restore-drill": ("backup", "/drills", {}),
    "restore-engine": ("backup", "/restores", {"system": "engine"}),
    "restore-images": ("backup", "/restores", {"system": "pacs-a"}),
    "restore-earlier": ("backup", "/drills", {"ago_s": 10}),
    "check-integrity": ("backup", "/integrity", {}),
    "bypass-on": ("dicom-router", "/bypass", {"on": True}),
    "bypass-off": ("dicom-router", "/bypass", {"on": False}),
}  # fmt: skip
"""(service, path, body); see traffic/crisis.py."""
QUESTIONS = frozenset({"ask-all-clear", "fail-back"})
"""Those that may be refused: the answer is what is wanted, and stands in the journal."""
