"""The page that puts runs side by side; each run's own page lies beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports import units
from reports.findings import answer, pareto, run_facts, side_by_side
from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings
from reports.findings.notices import notices
from reports.page import charts, drawing, figures, layout
from reports.page.drawing import Style
from reports.page.figures import Series
from reports.results import PHASES

SECTIONS = (
    ("answers", "Answers"),
    ("curves", "Cost"),
    ("ratios", "Ratios"),
    ("together-memory", "Memory"),
    ("together-accuracy", "Accuracy"),
    ("machines", "Machines"),
    ("data", "Data"),
)


def render(runs: Sequence[Findings], pages: Sequence[str], title: str) -> str:
    """One page that puts runs beside each other, the first one being what others are compared to.

    Args:
        runs: at least two, no more than there are letters.
        pages: address of each run's own page.
        title: of the page.
    """
    looks = drawing.styles(list(dict.fromkeys(name for f in runs for name in f.run.names)))
    letters = side_by_side.LETTERS[: len(runs)]
    return layout.fill_in(
        header="together-header.html.j2",
        sections=SECTIONS,
        title=title,
        document=charts.document(runs, looks, letters, samples=False),
        context={
            "looks": looks,
            "phase_names": PHASE_NAMES,
            "costs_of_accuracy": pareto.COSTS,
            "charts": charts.charts(runs, letters),
            "sides": [
                {
                    "letter": letter,
                    "page": address,
                    "run": findings.run,
                    "facts": findings.run.facts,
                    "where": run_facts.where(findings.run.facts),
                    "notices": notices(findings),
                    "answers": answer.sentences(findings),
                    "joined": pareto.joined(findings),
                }
                for letter, address, findings in zip(letters, pages, runs, strict=True)
            ],
            "facts": {
                "machine": side_by_side.facts([run_facts.machine(f.run.facts) for f in runs]),
                "what was asked": side_by_side.facts(
                    [run_facts.options(f.run.facts) for f in runs]
                ),
            },
            "pairs": [
                _pair(runs[0], other, (letters[0], letter), looks)
                for letter, other in zip(letters[1:], runs[1:], strict=True)
            ],
        },
    )


def _pair(
    first: Findings, second: Findings, letters: tuple[str, str], looks: Mapping[str, Style]
) -> dict[str, Any]:
    """The ratios of two runs: a still figure and a table per phase, at a batch size of both."""
    found = side_by_side.ratios(first, second)
    batch = side_by_side.common_batch(found, first.batch)
    here = [ratio for ratio in found if ratio.batch == batch]
    named, other = letters
    pictures, tables = [], []
    for phase in PHASES:
        group = sorted((r for r in here if r.phase == phase), key=lambda ratio: ratio.classes)
        if not group:
            continue
        heads = list(dict.fromkeys(ratio.head for ratio in here if ratio.phase == phase))
        series = [
            Series(
                head=head,
                classes=[ratio.classes for ratio in group if ratio.head == head],
                values=[ratio.times for ratio in group if ratio.head == head],
            )
            for head in heads
        ]
        drawn = figures.against_classes(
            series, looks, f"time in {other} / in {named}", units.digits
        )
        caption = f"{PHASE_NAMES[phase]}: time in {other} over time in {named}, batch {batch}."
        pictures.append(layout.picture(drawn, f"ratio-{other}-{phase}", caption))
        tables.append(
            {
                "phase": phase,
                "heads": heads,
                "rows": sorted({ratio.classes for ratio in group}),
                "cells": {(ratio.head, ratio.classes): ratio for ratio in group},
            }
        )
    changes = [ratio.change for ratio in found]
    return {
        "first": named,
        "second": other,
        "batch": batch,
        "pictures": pictures,
        "tables": tables,
        "counts": {
            "cells": len(changes),
            "faster": changes.count("faster"),
            "slower": changes.count("slower"),
        },
    }
