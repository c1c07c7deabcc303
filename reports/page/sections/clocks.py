"""On a GPU: what a call costs on the device, what it costs the host, and which of them binds."""

from __future__ import annotations

from typing import Any

from reports.findings import clocks
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "clocks", "Two clocks"

MOST_SIZES = 6
"""Of a head in the table; the charts have all."""


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A row per head and size of the training step; nothing where there is one clock."""
    found = clocks.two_clocks(findings.as_read, findings.alone, findings.scatter)
    steps = [one for one in found if one.phase == "train" and one.batch == findings.batch]
    sizes = sorted({one.classes for one in steps})
    shown = set(sizes[:: -(-len(sizes) // MOST_SIZES)]) | set(sizes[-1:]) if sizes else set()
    reasons: dict[str, list[str]] = {}
    for one in found:
        if one.why_not and (what := f"{one.head} {one.phase}") not in reasons.setdefault(
            one.why_not, []
        ):
            reasons[one.why_not].append(what)
    return {
        "said": clocks.sentences(found, "train", findings.batch),
        "clock_words": clocks.WORDS,
        "rows": {
            head: [one for one in steps if one.head == head and one.classes in shown]
            for head in dict.fromkeys(one.head for one in steps)
        },
        "not_captured": reasons,
        "noise": clocks.noise(findings.floor_by_clock),
    }
