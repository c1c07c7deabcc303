"""Next-word prediction: the table of heads, perplexity against time, the front, what follows."""

from __future__ import annotations

from typing import Any

from reports import units
from reports.findings.findings import Findings
from reports.findings.words import Words, sentences
from reports.page.figures import words as figures
from reports.page.figures.drawing import Looks, picture

NAME, TITLE = "words", "Next-word prediction"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """The table, the figures and the sentences; nothing where no training on words finished."""
    words = Words(findings)
    rows = words.rows
    if not rows:
        return {}
    return {
        "rows": rows,
        "dataset": next(iter(words.seeds.values()))[0].dataset,
        "classes": words.classes,
        "memory": any(row.memory for row in rows),
        "num_bytes": units.num_bytes,
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
