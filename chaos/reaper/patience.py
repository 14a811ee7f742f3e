"""Calls to a container engine that may be restarting: waited for, within a bound, and only once.

It knows no step, only the engine's socket that a step names.
"""

from __future__ import annotations

import json
import time

from .asking import Silent, ask_engine
from .step import Step, StepFailed

CALL_S = 20.0  # one call; an engine with two busy cores takes seconds to remove a container
COMES_BACK_S = 30.0  # an engine that is being restarted must answer again by then
GIVEN_UP_S = 60.0  # one that did not is asked but once per call for so long, not waited for again
POLL_S = 0.2

_silent_until: dict[str, float] = {}  # engines that did not come back, and how long that is held


def patient(step: Step, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """A call that survives the restart of the engine, within COMES_BACK_S.

    One that did not come back is not waited for again by every later step.
    """
    engine = str(step["engine"])
    began = time.monotonic()
    patience_s = 0.0 if began < _silent_until.get(engine, 0.0) else COMES_BACK_S
    while True:
        try:
            answer = ask_engine(engine, method, path, body, CALL_S)
            _silent_until.pop(engine, None)
            return answer
        except Silent as error:
            if time.monotonic() - began >= patience_s:
                if patience_s:
                    _silent_until[engine] = time.monotonic() + GIVEN_UP_S
                raise StepFailed(
                    f"{error}; start the container engine, then `hospital-chaos heal`"
                ) from error
            time.sleep(POLL_S)


def message(text: bytes) -> str:
    """The engine's own words in an answer that refuses."""
    try:
        return str(json.loads(text)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return text[:300].decode("utf-8", "replace")
