"""report.html: self-contained, escaped, the same every time, and honest about every outcome."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from types import ModuleType

import msgspec
import pytest

from chaos import report
from chaos.journal import events as e
from chaos.journal.history import History
from chaos.verdict import Finding, Judgement, Verdict
from stacks.hospital.terms import HOSPITAL

VOID_TAGS = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = (
    "</pre></svg><script>alert(1)</script><img src=x onerror=alert(2)>"
    "\"'&<b>{{ 7*7 }}\x00\x1b[31m\u202eevil\u2066\ufeff"
)


class Reader(HTMLParser):
    """Takes a page apart and insists that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def page(saint_luc: ModuleType, history: History) -> str:
    return report.html(
        history, saint_luc.judgement(), command=saint_luc.COMMAND, folder="run-7", story="Story.",
        terms=HOSPITAL,
    )  # fmt: skip


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    """No script, no frame, no address: it is whole without a network."""
    reader = read(page)
    assert not {"script", "iframe", "link", "img", "object", "embed"} & {t for t, _ in reader.tags}
    for tag, attrs in reader.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        for name in ("src", "href", "xlink:href", "action"):
            assert (attrs.get(name) or "#").startswith("#"), (tag, attrs)
    assert not re.search(r"https?:|@import|url\((?!#)", page)


def test_every_link_leads_somewhere_and_ids_are_unique(page: str) -> None:
    """Links to evidence lines hit their target."""
    reader = read(page)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in reader.tags:
        for name in ("href", "aria-labelledby"):
            if attrs.get(name):
                assert str(attrs[name]).lstrip("#") in ids


def test_the_page_is_accessible_by_construction(page: str) -> None:
    """Language, one main heading, headings without a jump, scoped headers, named pictures."""
    reader = read(page)
    assert ("html", {"lang": "en"}) in reader.tags
    levels = [int(t[1]) for t, _ in reader.tags if re.fullmatch(r"h\d", t)]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(attrs.get("scope") in ("col", "row") for t, attrs in reader.tags if t == "th")
    tables = sum(t == "table" for t, _ in reader.tags)
    assert tables == sum(t == "caption" for t, _ in reader.tags) > 4
    for tag, attrs in reader.tags:
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"


def test_the_same_run_gives_the_same_bytes(saint_luc: ModuleType, page: str) -> None:
    """Read again in another process with another hash seed, the page is byte-identical."""
    code = (
        "import importlib.util, sys\n"
        f"s = importlib.util.spec_from_file_location('d', {saint_luc.__file__!r})\n"
        "m = importlib.util.module_from_spec(s); s.loader.exec_module(m)\n"
        "from chaos import report\n"
        "from chaos.journal.history import History\n"
        "from stacks.hospital.terms import HOSPITAL\n"
        "p = report.html(History.of(m.journal()), m.judgement(), command=m.COMMAND,"
        " folder='run-7', story='Story.', terms=HOSPITAL)\n"
        "sys.stdout.buffer.write(p.encode())\n"
    )
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=True
        )
        assert done.stdout == page.encode()


def test_the_top_says_what_was_tried_what_came_out_and_what_it_means(page: str) -> None:
    """A medical director reads names of statements, not ids alone, before any table."""
    text = squeezed(read(page).text)
    top = text[: text.index("What the hospital states, and what became of it")]
    assert "2 of 14 claims did not hold" in top
    assert "Story." in top
    assert "ehr-a crashes (SIGKILL) and is not restarted" in top
    assert "“Prescription and patient record are not interrupted” (OR-1)" in top
    assert "10 of the hospital's 14 statements held" in top
    assert "for vital emergencies" in top


def test_every_claim_stands_there_with_verdict_evidence_and_lines(
    saint_luc: ModuleType, page: str
) -> None:
    """Nothing of a verdict is lost, and the broken ones come first."""
    text = squeezed(read(page).text)
    for v in saint_luc.claims():
        assert f"“{v.statement}”" in text
        assert v.reason in text
        assert f"{v.evidence:,} needed {v.needed:,}" in text
        for ref in v.lines:
            assert ref in text
    assert text.index("OR-1 “") < text.index("FO-1 “") < text.index("RA-1 “")


def test_cited_lines_are_the_lines_of_the_journal(saint_luc: ModuleType, page: str) -> None:
    """What is quoted is what stands in the file at that place."""
    text = read(page).text
    files = {name: data.decode().splitlines() for name, data in saint_luc.journal().items()}
    quoted = 0
    for v in saint_luc.claims():
        for ref in v.lines[:20]:
            name, _, line = ref.rpartition(":")
            if name in files:
                assert files[name][int(line) - 1] in text, ref
                quoted += 1
    assert quoted > 40
    assert "this line is not in the journal that was read" in text  # no-such-file.jsonl:3


def test_raw_lines_given_by_the_caller_win(saint_luc: ModuleType, history: History) -> None:
    """Who has the file's own text can hand it in."""
    judged = saint_luc.judgement(made=(saint_luc.claims()[0],))
    lines = dict.fromkeys(saint_luc.claims()[0].lines, '{"t":5001,"e":"odd", "x" : 1}')
    text = read(report.html(history, judged, lines=lines)).text
    assert '{"t":5001,"e":"odd", "x" : 1}' in text


@pytest.mark.parametrize("outcome", [Finding.VOID, Finding.ABORTED])
def test_a_run_that_proves_nothing_says_so_and_why(
    saint_luc: ModuleType, history: History, outcome: Finding
) -> None:
    """Held claims in a void or aborted run are not sold as results."""
    judged = saint_luc.judgement(outcome, reasons=("the warm-up was not steady",))
    text = squeezed(read(report.html(history, judged)).text)
    top = text[: text.index("What the hospital states, and what became of it")]
    assert "This run proves nothing" in top
    assert "the warm-up was not steady" in top
    assert "None of the 14 claims counts" in top
    assert "statements held" not in top
    assert text.count("does not count") >= 12


def test_an_inconclusive_run_is_neither_good_nor_bad(
    saint_luc: ModuleType, history: History
) -> None:
    """Too little evidence: named, and not called held."""
    some = tuple(v for v in saint_luc.claims() if v.verdict is not Finding.BROKEN)
    text = squeezed(
        read(report.html(history, saint_luc.judgement(Finding.INCONCLUSIVE, some))).text
    )
    assert "2 of 12 claims could not be judged" in text
    assert "not shown to be true, nor to be false" in text


def test_a_planted_defect_is_told_at_the_top(saint_luc: ModuleType) -> None:
    """Nobody mistakes a test of the harness for a test of the hospital."""
    events = [saint_luc.run_started(defect="engine-acks-early"), *saint_luc.harness()[1:]]
    history = History.of({"harness.jsonl": saint_luc.lines(events)})
    text = squeezed(read(report.html(history, saint_luc.judgement())).text)
    assert "A planted defect was switched on: engine-acks-early" in text
    assert "--seed 7" in text  # a way to reproduce it, even when the caller gave none


def hostile_run(saint_luc: ModuleType) -> tuple[History, Judgement]:
    bad = HOSTILE
    events = [
        saint_luc.run_started(name=bad, preset=bad, stack=bad, utc=bad, services={bad: bad},
                              defect=bad, runtime=bad),
        e.ServiceSeen(5_001.0, bad, bad, bad),
        e.WindowOpened(5_001.5, bad),
        e.FaultBegan(5_002.0, bad, bad, (bad,), bad, (bad,)),
        e.FaultUnseen(5_003.0, bad, bad),
        e.FaultEnded(5_004.0, bad, bad),
        e.FaultStuck(5_004.0, bad, bad),
        e.WorkloadStarted(5_005.0, bad),
        e.WorkloadEnded(5_006.0, bad, 1, 1, 0.0, 0.0, False, bad),
        e.OpInvoked(5_002.0, bad, bad, bad, 5_002.0, bad, bad, bad, bad, bad),
        e.OpUnknown(5_007.0, bad, bad, bad),
        e.StoreRead(5_008.0, bad, False, 0, bad),
        e.Drained(5_009.0, False, bad),
        e.RunEnded(5_010.0, bad, bad),
    ]  # fmt: skip
    history = History.of({"<b>.jsonl": saint_luc.lines(sorted(events, key=lambda x: x.t))})
    claim = Verdict(bad, bad, Finding.BROKEN, bad, 1, 2, ("<b>.jsonl:2", bad, f"<b>.jsonl:{bad}"))
    return history, Judgement(bad, 1, bad, Finding.BROKEN, (claim,), (bad,))


def test_hostile_text_stays_text(saint_luc: ModuleType) -> None:
    """Mark-up, templates, control and direction characters of a journal do nothing."""
    history, judged = hostile_run(saint_luc)
    page = report.html(history, judged, command=HOSTILE, folder=HOSTILE, story=HOSTILE)
    reader = read(page)
    assert not {"script", "img", "b onerror"} & {t for t, _ in reader.tags}
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7*7 }}" in reader.text
    for char in "\x00\x1b\u202e\u2066\ufeff":
        assert char not in page
    assert "\\u{202e}" in page


def test_very_long_names_do_not_blow_up_the_page(saint_luc: ModuleType) -> None:
    """A megabyte of name is cut, in every place where it stands."""
    long = "x" * 1_000_000
    events = [
        saint_luc.run_started(name=long, services={long: long}),
        e.ServiceSeen(5_001.0, long, "ready", long),
        e.FaultBegan(5_002.0, long, long, (long,) * 50, long, (long,)),
        e.OpInvoked(5_003.0, "a", long, long, 5_003.0),
        e.OpOk(5_004.0, "a", "200"),
    ]
    history = History.of({"harness.jsonl": saint_luc.lines(events)})
    claim = Verdict(long, long, Finding.BROKEN, long, 1, 2, ("harness.jsonl:1",) * 5_000)
    judged = Judgement(long, 1, long, Finding.BROKEN, (claim,) * 3, (long,))
    assert len(report.html(history, judged, command=long, folder=long, story=long)) < 300_000


@pytest.mark.parametrize(
    "case", ["nothing", "no traffic", "no faults", "killed", "no run.started", "instant"]
)
def test_a_poor_journal_still_gives_a_whole_page(saint_luc: ModuleType, case: str) -> None:
    """Whatever is missing, the page is whole, and says what it does not know."""
    harness = saint_luc.harness()
    files = {
        "nothing": {},
        "no traffic": {"harness.jsonl": harness},
        "no faults": {"harness.jsonl": [x for x in harness if not hasattr(x, "fault")]},
        "killed": {"harness.jsonl": [x for x in harness if x.t < 5_060],
                   "day.jsonl": saint_luc.traffic()},
        "no run.started": {"harness.jsonl": harness[1:], "day.jsonl": saint_luc.traffic()},
        "instant": {"harness.jsonl": harness[:1]},
    }[case]  # fmt: skip
    history = History.of({name: saint_luc.lines(events) for name, events in files.items()})
    judged = saint_luc.judgement(Finding.VOID, made=(), reasons=("see the checks",))
    text = squeezed(read(report.html(history, judged)).text)
    said = {
        "nothing": "No clinical operation was recorded",
        "no traffic": "No operation was recorded.",
        "no faults": "No fault was injected.",
        "killed": "the harness was killed",
        "no run.started": "not recorded",
        "instant": "no state recorded",
    }
    assert said[case] in text
    assert "No claim was judged." in text
    report.markdown(history, judged)
    report.plain(history, judged)


@pytest.mark.parametrize("t", [-1e308, -1.0, 0.0, 5_000.000001, 1e15, 1e308])
@pytest.mark.parametrize("speed", [1e-300, 1.0, 1e308])
def test_a_broken_clock_does_not_break_the_page(
    saint_luc: ModuleType, t: float, speed: float
) -> None:
    """Times and speeds that no run can have still give a page, in bounded space."""
    events = [
        saint_luc.run_started(speed=speed),
        e.WindowOpened(t, "fault"),
        e.ServiceSeen(t, "ehr-a", "gone"),
        e.FaultBegan(t, "1", "kill", ("ehr-a",), "ehr-a crashes"),
        e.OpInvoked(t, "1", "stat.turnaround", "P0", -t),
        e.OpOk(t, "1", "200"),
        e.OpInvoked(5_000.5, "2", "chart.read", "P0", t),
        e.OpUnknown(t, "2", "time-out"),
        e.WorkloadEnded(t, "day", 1, 1, 1e308, 1e308),
    ]
    history = History.of({"harness.jsonl": saint_luc.lines(events)})
    judged = Judgement("x", 1, "process", Finding.VOID, (), ("the clock is broken",))
    assert len(report.html(history, judged)) < 200_000
    assert "the clock is broken" in report.plain(history, judged)
    report.markdown(history, judged)


@pytest.mark.slow
def test_a_million_operations_make_a_page_of_the_same_size(saint_luc: ModuleType) -> None:
    """Operations are binned, not drawn one by one: the page hardly grows."""
    few = History.of({"a.jsonl": saint_luc.lines([saint_luc.run_started(), *ops(2_000)])})
    many = History.of({"a.jsonl": saint_luc.lines([saint_luc.run_started(), *ops(1_000_000)])})
    judged = saint_luc.judgement(made=())
    assert len(report.html(many, judged)) < 1.5 * len(report.html(few, judged))


def ops(count: int) -> list[e.Event]:
    made: list[e.Event] = []
    for i in range(count):
        t = 5_000 + 600 * i / count
        made.append(e.OpInvoked(t, str(i), "chart.read", f"P{i % 5}", t))
        made.append(e.OpOk(t + 0.01 * (i % 7), str(i), "200"))
    return made


def test_a_page_is_a_pure_function_of_what_it_is_given(
    saint_luc: ModuleType, history: History
) -> None:
    """Drawing the page leaves history and judgement as they were."""
    judged = saint_luc.judgement()
    before = msgspec.json.encode(judged)
    one = report.html(history, judged)
    assert report.html(history, judged) == one
    assert msgspec.json.encode(judged) == before
