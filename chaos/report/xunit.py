"""The verdicts as JUnit XML, so that a CI system shows each claim as one test.

It judges nothing, and it never lets an unproven claim look green.

`held` is a pass and `broken` a failure. `inconclusive`, `void` and `aborted` are errors, not
skips: JUnit's *error* means "the test could not be carried out", and every CI system turns red on
it, while a skip is painted grey and lets the build pass, which would make a run that proved
nothing look like one that did. The `type` attribute keeps the finding's own name. In a void or
aborted run no claim passes, whatever its own verdict says, and the run has a test case of its own
that carries the reason.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from chaos.report.wording import visible
from chaos.verdict import Finding, Judgement, Verdict

NOTHING_PROVEN = (Finding.VOID, Finding.ABORTED)


def junit(
    judgement: Judgement, *, folder: str = "", command: str = "", duration_s: float = 0.0
) -> str:
    """One test suite per run, one test case per claim; a UTF-8 XML document as text."""
    cases = [_case(judgement, v) for v in judgement.claims]
    if judgement.outcome in NOTHING_PROVEN or not judgement.claims:
        cases.insert(0, _run_case(judgement))
    suite = ET.Element(
        "testsuite",
        name=_xml(judgement.name),
        tests=str(len(cases)),
        failures=str(sum(c.find("failure") is not None for c in cases)),
        errors=str(sum(c.find("error") is not None for c in cases)),
        skipped="0",
        time=f"{duration_s:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("seed", str(judgement.seed)),
        ("runtime", judgement.runtime),
        ("outcome", judgement.outcome.value),
        ("run_folder", folder),
        ("reproduce", command),
    ):
        ET.SubElement(properties, "property", name=name, value=_xml(value))
    suite.extend(cases)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _case(judgement: Judgement, v: Verdict) -> ET.Element:
    case = ET.Element(
        "testcase", classname=_xml(judgement.name), name=_xml(f"{v.id} {v.statement}"), time="0"
    )
    lines = "".join(f"\n  {line}" for line in v.lines) or " none"
    detail = f"{v.reason}\nevidence: {v.evidence} of {v.needed} needed\njournal lines:{lines}"
    if judgement.outcome in NOTHING_PROVEN:
        why = "; ".join(judgement.reasons) or "no reason given"
        message = f"the run is {judgement.outcome.value}, nothing is proven: {why}"
        detail = f"judged alone, this claim was {v.verdict.value}: {detail}"
        _outcome(case, "error", judgement.outcome, message, detail)
    elif v.verdict is Finding.HELD:
        ET.SubElement(case, "system-out").text = _xml(detail)
    elif v.verdict is Finding.BROKEN:
        _outcome(case, "failure", v.verdict, v.reason, detail)
    else:
        _outcome(case, "error", v.verdict, f"{v.verdict.value}: {v.reason}", detail)
    return case


def _run_case(judgement: Judgement) -> ET.Element:
    case = ET.Element(
        "testcase", classname=_xml(judgement.name), name="the experiment is valid", time="0"
    )
    why = "; ".join(judgement.reasons) or "no claim was judged"
    _outcome(case, "error", judgement.outcome, why, "\n".join(judgement.reasons) or why)
    return case


def _outcome(case: ET.Element, tag: str, finding: Finding, message: str, detail: str) -> None:
    node = ET.SubElement(case, tag, type=finding.value, message=_xml(message))
    node.text = "\n".join(_xml(line) for line in detail.split("\n"))


def _xml(text: str) -> str:
    """Only characters that XML 1.0 allows."""
    return visible(text)
