"""The figures behind the page, to download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.findings.side_by_side import LetteredRun
from reports.page.figures.drawing import Looks

NAME, TITLE = "data", "Data"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """Nothing: every page carries its data."""
    return {}
