"""Pages that people and CI read, as pure functions of a history and its judgement.

Nothing here touches the world or has a clock: the same run always gives the same bytes.
"""

from __future__ import annotations

from chaos.report.page import html
from chaos.report.summary import markdown, plain
from chaos.report.xunit import junit
from chaos.terms import Terms

__all__ = ["Terms", "html", "junit", "markdown", "plain"]
