"""Memory against the number of classes: a chart, and a training step in still figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports import units
from reports.findings.findings import Findings, by_head
from reports.findings.joined import Memory
from reports.page import charts
from reports.page.figures import curves
from reports.page.figures.curves import Series
from reports.page.figures.drawing import Looks, picture
from reports.stats.estimates import Interval

NAME, TITLE = "memory", "Memory"

KINDS: dict[str, tuple[Callable[[Memory], int], str]] = {
    "peak": (lambda memory: memory.peak, "peak of a training step above what was there before"),
    "total": (lambda memory: memory.total, "parameters, optimizer state and that peak together"),
}


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A figure of each kind, where memory was measured, and the bytes at the reference size."""
    lines = {kind: series(findings, of) for kind, (of, _) in KINDS.items()}
    return {
        "table": [(row.head, row.memory) for row in findings.heads if row.memory],
        "memory_chart": charts.memory([findings], [findings.run.name]),
        "pictures": [
            picture(
                curves.against_classes(lines[kind], looks, "bytes", units.num_bytes),
                f"memory-{kind}",
                f"Memory: {what}, against number of classes, batch {findings.batch}.",
            )
            for kind, (_, what) in KINDS.items()
            if lines[kind]
        ],
    }


def series(findings: Findings, of: Callable[[Memory], int]) -> list[Series]:
    """A line per head, bytes of its training step; the interval of what is exact is a point.

    No bytes at all have no place on a logarithmic axis.
    """
    steps = [
        cell
        for cell in findings.alone_at("train", findings.batch)
        if cell.memory and of(cell.memory)
    ]
    return [
        Series(
            head=head,
            classes=[cell.classes for cell in cells],
            values=[Interval(v, v, v) for cell in cells if cell.memory for v in [of(cell.memory)]],
        )
        for head, cells in by_head(steps).items()
    ]
