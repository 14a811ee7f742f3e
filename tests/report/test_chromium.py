"""The page as a browser shows it: nothing wider than the screen, everything in print."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from chaos import report
from chaos.journal.history import History
from stacks.hospital.terms import HOSPITAL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER_S = 60
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
)  # fmt: skip
PROBE = """<script>
addEventListener('load', () => {
  const root = document.documentElement, shown = s => [...document.querySelectorAll(s)]
    .filter(x => x.getClientRects().length).length;
  const wide = [...document.querySelectorAll('main *')].filter(x => !x.closest('.scroll')
    && x.getBoundingClientRect().right > innerWidth + 1).map(x => x.tagName + '.' + x.className);
  document.title = JSON.stringify([root.scrollWidth, innerWidth, shown('.drawing.wide svg'),
    shown('.drawing.narrow svg'), wide.length]);
});
</script></head>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium"),
]


def chromium(tmp_path: Path, *args: str) -> str:
    """Run the browser once, to its end; it gets a profile of its own."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *args],
        capture_output=True, text=True, timeout=BROWSER_S, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def page(saint_luc: ModuleType, history: History, tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    judged = msgspec.structs.replace(saint_luc.judgement(), objectives=saint_luc.MEASURED)
    text = report.html(history, judged, command=saint_luc.COMMAND, terms=HOSPITAL)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [500, 1280])
def test_nothing_is_wider_than_the_screen(page: Path, tmp_path: Path, width: int) -> None:
    """No sideways scrolling of the page; the drawing fits a phone or a desk, one of the two."""
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text("utf-8").replace("</head>", PROBE, 1), encoding="utf-8")
    dom = chromium(tmp_path, f"--window-size={width},900", "--dump-dom", probe.as_uri())
    title = re.search(r"<title>\[(.*?)\]</title>", dom)
    assert title is not None, dom[:500]
    scroll_w, inner_w, wide, narrow, too_wide = map(int, title[1].split(","))
    assert scroll_w <= inner_w
    assert too_wide == 0
    assert (wide > 0, narrow > 0) == ((False, True) if width < 640 else (True, False))


def test_everything_is_in_print(page: Path, tmp_path: Path, saint_luc: ModuleType) -> None:
    """The printed pages hold every reason and the last section; A4, and not one page too many."""
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri())
    tool = shutil.which("pdftotext")
    if tool is None:
        pytest.skip("no pdftotext on PATH: apt-get install poppler-utils")
    done = subprocess.run([tool, str(pdf), "-"], capture_output=True, timeout=60, check=True)
    text = done.stdout.decode()
    squeezed = re.sub(r"\s+", "", text)
    for v in saint_luc.claims():
        assert re.sub(r"\s+", "", v.reason) in squeezed
    for one in saint_luc.MEASURED:
        assert re.sub(r"\s+", "", one.rpo.text) in squeezed
    assert "Howtoreproduceit" in squeezed
    assert re.sub(r"\s+", "", saint_luc.COMMAND) in squeezed
    assert 4 <= text.count("\f") <= 14
