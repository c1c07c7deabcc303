"""Next-word prediction: the table of heads, perplexity against time, the front, what follows."""

from __future__ import annotations

from typing import Any

from reports import units
from reports.findings.findings import Findings
from reports.findings.verdicts import NOTHING
from reports.findings.words import WordRow, Words, sentences
from reports.page.figures import words as figures
from reports.page.figures.drawing import Looks, picture
from reports.units import Shown

NAME, TITLE = "words", "Next-word prediction"


COLUMNS = (
    *("perplexity", "over softmax's", "words per second", "training in all"),
    *("to softmax's last perplexity", "accuracy", "top 5", "F1, frequent words"),
    *("memory of a step", "seeds"),
)


def _line(row: WordRow) -> tuple[str, list[Shown]]:
    """What the table says of a variant, in the order of `COLUMNS`."""
    trained, none = row.trained, Shown(NOTHING)
    late = Shown(f"{row.arrived} of {trained.seeds} seeds")
    return row.variant, [
        units.show(row.perplexity),
        units.show(row.against) if row.against else none,
        units.show(row.words_per_second),
        units.show(row.seconds, units.SECONDS),
        units.show(row.to_yardstick, units.SECONDS) if row.to_yardstick else late,
        *map(units.share_interval, (trained.accuracy, trained.top5, trained.f1)),
        Shown(units.num_bytes(row.memory.total)) if row.memory else none,
        Shown(str(trained.seeds)),
    ]


def context(findings: Findings, looks: Looks) -> dict[str, Any] | None:
    """The table, the figures and the sentences; no section where no training on words finished."""
    words = Words(findings)
    rows = words.rows
    if not rows:
        return None
    return {
        "rows": rows,
        "table": [_line(row) for row in rows],
        "dataset": next(iter(words.seeds.values()))[0].dataset,
        "columns": COLUMNS,
        "classes": words.classes,
        "sentences": list(sentences(words)),
        "curves": picture(
            figures.perplexity_against_time(words.curves, looks),
            "perplexity",
            "Perplexity on validation text against seconds of training, tests left out; mean over "
            "seeds. Down and to the left is better; dotted: where softmax ends.",
        ),
        "front": picture(
            figures.front(rows, looks),
            "perplexity-front",
            "Perplexity on the test text against seconds of training in all: a small mark for each "
            "seed, a large one for their mean. Filled: none at its left is lower; the line joins "
            "these.",
        ),
    }
