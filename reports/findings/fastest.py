"""Which head is fastest at which number of classes and batch size, and where that is undecided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.findings.joined import Cell
from reports.stats import estimates
from reports.stats.estimates import Interval, Scatter


@dataclass(frozen=True)
class Fastest:
    """The fastest head at one class count and batch size.

    Attributes:
        head: the one with the smallest median.
        rivals: heads that the noise floor does not allow to call slower, closest first.
        lead: how many times as long the runner-up takes; None where one head was measured.
    """

    classes: int
    batch: int
    head: str
    rivals: tuple[str, ...]
    lead: Interval | None

    @property
    def decided(self) -> bool:
        """Whether one head is faster than all others by more than the noise."""
        return not self.rivals


def fastest(cells: Iterable[Cell], known: Scatter, margin: float) -> tuple[Fastest, ...]:
    """The fastest head at every class count and batch size.

    Args:
        cells: of one setting and one phase.
        known: the run's scatter between passes.
        margin: the noise floor, a share: differences within it do not count.
    """
    groups: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.samples:
            groups[cell.classes, cell.batch].append(cell)
    return tuple(_fastest(groups[place], known, margin) for place in sorted(groups))


def rank(cells: Iterable[Cell]) -> list[Cell]:
    """Timed cells, the fastest first."""
    return sorted(
        (cell for cell in cells if cell.seconds),
        key=lambda cell: cell.seconds.estimate if cell.seconds else 0.0,
    )


def _fastest(group: Sequence[Cell], known: Scatter, margin: float) -> Fastest:
    best, *others = rank(group)
    # All others are compared at once, so each comparison has to be that much surer (Bonferroni).
    confidence = 1 - 0.05 / max(1, len(others))
    leads = [estimates.ratio(o.samples, best.samples, known, confidence) for o in others]
    return Fastest(
        classes=best.classes,
        batch=best.batch,
        head=best.head,
        rivals=tuple(
            other.head
            for other, lead in zip(others, leads, strict=True)
            if estimates.judge(lead, margin) != "slower"
        ),
        lead=leads[0] if leads else None,
    )
