"""Next-word prediction by several runs: when does each head reach softmax's perplexity?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import units
from reports.findings.side_by_side import LetteredRun
from reports.findings.verdicts import NOTHING
from reports.findings.words import YARDSTICK, WordRow, Words, first, times
from reports.page.figures.drawing import Looks
from reports.units import Shown

NAME, TITLE = "words", "Next-word prediction"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any] | None:
    """A row for each variant, smallest vocabulary first; no section for fewer than two runs."""
    learned = [(run, words) for run in runs if (words := Words(run.findings)).row(YARDSTICK)]
    if len(learned) < 2:
        return None
    learned.sort(key=lambda one: one[1].classes)
    variants = dict.fromkeys(row.variant for _, words in learned for row in words.rows)
    return {
        "learned": learned,
        "table": [
            (variant, [_shown(words.row(variant)) for _, words in learned])
            for variant in variants
            if variant != YARDSTICK
        ],
        "first": [(run, words.classes, first(words)) for run, words in learned],
    }


def _shown(row: WordRow | None) -> tuple[Shown, Shown]:
    """Perplexity over softmax's, and how many times as fast its last one is reached."""
    if row is None:
        return Shown(NOTHING), Shown(NOTHING)
    against = units.show(row.against) if row.against else Shown(NOTHING)
    late = Shown(f"{row.arrived} of {row.trained.seeds} seeds")
    return against, times(row.speedup) if row.speedup else late
