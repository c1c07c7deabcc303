"""How many times as long each cell takes in every other run as in the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import units
from reports.findings import side_by_side
from reports.findings.answer import PHASE_NAMES
from reports.findings.side_by_side import LetteredRun
from reports.page.figures.curves import Series, against_classes
from reports.page.figures.drawing import Looks, picture
from reports.results import PHASES

NAME, TITLE = "ratios", "Ratios"


def context(runs: Sequence[LetteredRun], looks: Looks) -> dict[str, Any]:
    """The first run beside each other one."""
    first, *others = runs
    return {"pairs": [_pair(first, other, looks) for other in others]}


def _pair(first: LetteredRun, second: LetteredRun, looks: Looks) -> dict[str, Any]:
    """The ratios of two runs: a still figure and a table per phase, at a batch size of both."""
    ratios = side_by_side.ratios(first.findings, second.findings)
    batch = side_by_side.common_batch(ratios, first.findings.batch)
    pictures, tables = [], []
    for phase in PHASES:
        here = [ratio for ratio in ratios if (ratio.phase, ratio.batch) == (phase, batch)]
        if not here:
            continue
        heads = list(dict.fromkeys(ratio.head for ratio in here))
        here.sort(key=lambda ratio: ratio.classes)
        series = [
            Series(
                head=head,
                classes=[ratio.classes for ratio in here if ratio.head == head],
                values=[ratio.times for ratio in here if ratio.head == head],
            )
            for head in heads
        ]
        over = f"{second.letter} / in {first.letter}"
        drawn = against_classes(series, looks, f"time in {over}", units.digits)
        caption = (
            f"{PHASE_NAMES[phase]}: time in {second.letter} over time in {first.letter}, "
            f"batch {batch}."
        )
        pictures.append(picture(drawn, f"ratio-{second.letter}-{phase}", caption))
        tables.append(
            {
                "phase": phase,
                "heads": heads,
                "rows": sorted({ratio.classes for ratio in here}),
                "cells": {(ratio.head, ratio.classes): ratio for ratio in here},
            }
        )
    changes = [ratio.change for ratio in ratios]
    return {
        "first": first.letter,
        "second": second.letter,
        "batch": batch,
        "pictures": pictures,
        "tables": tables,
        "counts": {
            "cells": len(changes),
            "faster": changes.count("faster"),
            "slower": changes.count("slower"),
        },
    }
