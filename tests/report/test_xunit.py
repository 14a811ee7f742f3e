"""junit.xml: what a CI system paints green was proven, everything else is red."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from types import ModuleType

import pytest

from chaos import report
from chaos.verdict import Finding, Judgement, Verdict


def suite(text: str) -> ET.Element:
    found = ET.fromstring(text).find("testsuite")
    assert found is not None
    return found


def one(finding: Finding, outcome: Finding | None = None) -> Judgement:
    claim = Verdict(
        "RA-1", "The record can be read.", finding, "the reason", 7, 300, ("a.jsonl:3",)
    )
    reasons = ("the fault was not seen",) if outcome in (Finding.VOID, Finding.ABORTED) else ()
    return Judgement("saint-luc", 7, "process", outcome or finding, (claim,), reasons)


@pytest.mark.parametrize(
    ("finding", "tag"),
    [
        (Finding.HELD, "system-out"),
        (Finding.BROKEN, "failure"),
        (Finding.INCONCLUSIVE, "error"),
        (Finding.VOID, "error"),
    ],
)
def test_each_finding_has_its_kind_of_result(finding: Finding, tag: str) -> None:
    """held passes, broken fails, and what was not judged is an error: never a skip."""
    found = suite(report.junit(one(finding)))
    case = found.findall("testcase")[-1]
    assert case.get("name") == "RA-1 The record can be read."
    assert [child.tag for child in case] == [tag]
    assert "the reason" in ET.tostring(case, "unicode")
    assert "7 of 300" in ET.tostring(case, "unicode")
    assert "a.jsonl:3" in ET.tostring(case, "unicode")
    if finding is not Finding.HELD:
        assert case[0].get("type") == finding.value
    assert found.get("failures") == str(int(finding is Finding.BROKEN))
    assert found.get("skipped") == "0"
    assert not list(found.iter("skipped"))


@pytest.mark.parametrize("outcome", [Finding.VOID, Finding.ABORTED])
@pytest.mark.parametrize("finding", [Finding.HELD, Finding.BROKEN, Finding.INCONCLUSIVE])
def test_nothing_passes_in_a_run_that_proves_nothing(finding: Finding, outcome: Finding) -> None:
    """In a void or aborted run every claim is an error, and so is the run itself."""
    found = suite(report.junit(one(finding, outcome)))
    assert found.get("tests") == found.get("errors") == "2"
    assert all(case.find("error") is not None for case in found.findall("testcase"))
    assert "the fault was not seen" in ET.tostring(found, "unicode")


def test_a_run_without_claims_is_not_an_empty_green_suite() -> None:
    """No claim judged: one error, not zero tests."""
    found = suite(report.junit(Judgement("x", 1, "process", Finding.HELD, ())))
    assert (found.get("tests"), found.get("errors")) == ("1", "1")


def test_the_suite_says_how_to_find_and_repeat_the_run(saint_luc: ModuleType) -> None:
    """Seed, runtime, run folder and the line that reproduces it are properties."""
    found = suite(report.junit(saint_luc.judgement(), folder="run-7", command=saint_luc.COMMAND))
    properties = {p.get("name"): p.get("value") for p in found.iter("property")}
    assert properties == {
        "seed": "7", "runtime": "process", "outcome": "broken", "run_folder": "run-7",
        "reproduce": saint_luc.COMMAND,
    }  # fmt: skip
    assert (found.get("tests"), found.get("failures"), found.get("errors")) == ("14", "2", "2")


def test_any_text_gives_valid_xml() -> None:
    """Characters that XML forbids are written as escapes."""
    bad = "".join(map(chr, range(0x20))) + "\x7f\ufffe\uffff]]><!-- & \"' 病 \u202e"
    claim = Verdict(bad, bad, Finding.BROKEN, bad, 1, 2, (bad,))
    text = report.junit(Judgement(bad, 1, bad, Finding.BROKEN, (claim,), (bad,)), folder=bad)
    assert "病" in ET.tostring(suite(text), "unicode")
    assert "\\x00" in text
