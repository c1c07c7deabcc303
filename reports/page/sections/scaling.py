"""Heads on several ranks: strong and weak scaling, what is told, when it pays, and a prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from reports import units
from reports.findings import scaling
from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings
from reports.findings.scaling import Predicted, Scaled, Scaling
from reports.page.figures import scaling as figures
from reports.page.figures.curves import Series
from reports.page.figures.drawing import Looks, Picture, picture
from reports.page.figures.scaling import Ahead
from reports.page.sections import cost
from reports.results import WHOLE
from reports.stats.estimates import Interval

NAME, TITLE = "scaling", "Several ranks"

MOST_SIZES = 6
"""Class counts of a head in a table; the data hold all."""


def context(findings: Findings, looks: Looks) -> dict[str, Any] | None:
    """Tables and figures; None, so that there is no section, where all heads were whole."""
    found = scaling.scaling(findings)
    if found is None:
        return None
    shown = [row for row in found.rows if row.cell.classes in _sizes(found)]
    return {
        "clock": found.clock,
        "pictures": [*_speedups(found, findings.batch, looks), *_ahead(found, findings, looks)],
        "tables": [
            {"phase": phase, "batch": batch, "under": under, "rows": _by_head(rows)}
            for (phase, under, batch), rows in _grouped(shown, findings.batch)
        ],
        "pays": [
            (one, cost.place(one.where)) for one in found.pays if one.where.batch == findings.batch
        ],
        "fitted": found.fitted,
        "links": found.links,
        "bandwidths": [_bandwidth(link.bandwidth) for link in found.links.values()],
        "predicted": [
            {"phase": phase, "batch": batch, "under": under, "rows": _by_head(rows)}
            for (phase, under, batch), rows in _grouped(found.predicted, findings.batch)
        ],
    }


def _sizes(found: Scaling) -> set[int]:
    """The class counts that tables show: some of all, the largest of each number of ranks."""
    sizes = sorted({row.cell.classes for row in found.rows})
    largest: dict[int, int] = {}
    for row in found.rows:
        largest[row.cell.ranks] = max(largest.get(row.cell.ranks, 0), row.cell.classes)
    return {*sizes[:: -(-len(sizes) // MOST_SIZES)], *largest.values()} if sizes else set()


def _grouped(rows: Any, usual: int) -> Iterator[tuple[tuple[str, str, int], list[Any]]]:
    """Rows of one phase, workload and batch size, what is usual first."""

    def place(row: Scaled | Predicted) -> tuple[int, str, bool, int]:
        cell = row.cell
        return WHOLE.index(cell.phase), row.under, cell.batch != usual, cell.batch

    for (phase, under, _, batch), group in groupby(sorted(rows, key=place), place):
        yield (WHOLE[phase], under, batch), list(group)


def _by_head(rows: list[Any]) -> dict[str, list[Any]]:
    heads: dict[str, list[Any]] = {}
    for row in rows:
        heads.setdefault(row.cell.head, []).append(row)
    return heads


def _speedups(found: Scaling, batch: int, looks: Looks) -> Iterator[Picture]:
    """A figure for each phase and number of ranks, of the usual workload."""
    rows = [row for row in found.rows if row.speedup and not row.under and row.cell.batch == batch]
    for phase in WHOLE:
        for ranks in sorted({row.cell.ranks for row in rows if row.cell.phase == phase}):
            here = [row for row in rows if (row.cell.phase, row.cell.ranks) == (phase, ranks)]
            series = [
                Series(
                    head=head,
                    classes=[row.cell.classes for row in of],
                    values=[row.speedup for row in of],
                )
                for head, of in _by_head(here).items()
            ]
            caption = (
                f"{PHASE_NAMES[phase]}: how many times as fast {ranks} ranks are as one, against "
                f"number of classes, batch {batch}. Above the line at 1, sharding pays."
            )
            drawn = figures.speedups(series, looks, ranks)
            yield picture(drawn, f"scaling-{phase}-{ranks}", caption)


def _ahead(found: Scaling, findings: Findings, looks: Looks) -> Iterator[Picture]:
    """A figure for each phase: the largest size on one rank and more, of the usual workload."""
    usual = [
        one
        for one in found.predicted
        if not one.weak and not one.under and one.cell.batch == findings.batch
    ]
    for phase in WHOLE:
        lines = []
        for head, of in _by_head([one for one in usual if one.cell.phase == phase]).items():
            classes = max(one.cell.classes for one in of)
            predicted = [(p.cell.ranks, p.seconds) for p in of if p.cell.classes == classes]
            there = [
                (row.cell.ranks, row.seconds)
                for row in found.rows
                if (row.cell.phase, row.cell.head, row.cell.classes, row.cell.batch, row.under)
                == (phase, head, classes, findings.batch, "")
            ]
            base = [(1, of[0].base)] if of[0].base else []
            lines.append(Ahead(head, [*base, *there], sorted(predicted)))
        if lines:
            caption = (
                f"{PHASE_NAMES[phase]}: seconds against the number of ranks, the largest class "
                f"count of each head, batch {findings.batch}. Points are measured; dashed, with "
                "its interval, what the model predicts."
            )
            yield picture(figures.ahead(lines, looks), f"scaling-ahead-{phase}", caption)


def _bandwidth(at: Interval) -> str:
    """12.3 GiB/s [12.0 GiB/s, 12.6 GiB/s] between ranks, or that nothing shows a limit."""
    low, estimate, high = (
        f"{units.num_bytes(end)}/s" if math.isfinite(end) else "∞"
        for end in (at.low, at.estimate, at.high)
    )
    if math.isinf(at.estimate):
        return f"its bandwidth is above {low}: bytes take no time that shows"
    return f"bandwidth {estimate} [{low}, {high}]"
