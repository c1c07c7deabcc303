"""Which head is fastest at which number of classes and batch size, and where that is undecided.

There are three answers: one head; several that are equal, so that nothing is lost with any of them;
or undecided, which more measuring could decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from reports.findings.joined import Cell
from reports.stats import paired
from reports.stats.estimates import Change, Interval
from reports.stats.paired import Known, LocalFloor


@dataclass(frozen=True)
class Fastest:
    """The fastest head at one class count and batch size.

    Attributes:
        head: the one with the smallest median.
        equals: heads that differ from it by no more than `paired.EQUAL`, closest first, and those
            whose time is that of one of these because their code is.
        rivals: heads that noise does not allow to call slower or equal, closest first.
        lead: how many times as long the runner-up takes; None where one head was measured.
    """

    classes: int
    batch: int
    head: str
    equals: tuple[str, ...]
    rivals: tuple[str, ...]
    lead: Interval | None

    @property
    def heads(self) -> frozenset[str]:
        """All that may be called the fastest where it is decided."""
        return frozenset((self.head, *self.equals))

    @property
    def decided(self) -> bool:
        """Whether all others are slower by more than the noise, or equal."""
        return not self.rivals


def fastest(
    cells: Iterable[Cell], known: Known, floors: Sequence[LocalFloor] = ()
) -> tuple[Fastest, ...]:
    """The fastest head at every class count and batch size.

    Args:
        cells: of one setting and one phase.
        known: how much the run's passes differ.
        floors: the run's noise floor by duration: differences within it do not count.
    """
    groups: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.samples:
            groups[cell.classes, cell.batch].append(cell)
    return tuple(_fastest(groups[place], known, floors) for place in sorted(groups))


def rank(cells: Iterable[Cell]) -> list[Cell]:
    """Timed cells, the fastest first."""
    return sorted(
        (cell for cell in cells if cell.seconds),
        key=lambda cell: cell.seconds.estimate if cell.seconds else 0.0,
    )


def _fastest(group: Sequence[Cell], known: Known, floors: Sequence[LocalFloor]) -> Fastest:
    there = {cell.head for cell in group}
    copies = [cell for cell in group if cell.same_as in there]
    group = [cell for cell in group if cell.same_as not in there]
    place, others = paired.standing(group, known, partial(paired.margin, floors))
    best = group[place]

    def heads(*changes: Change) -> tuple[str, ...]:
        return tuple(group[other.place].head for other in others if other.change in changes)

    equals = heads("same")
    return Fastest(
        classes=best.classes,
        batch=best.batch,
        head=best.head,
        equals=(*equals, *(one.head for one in copies if one.same_as in (best.head, *equals))),
        rivals=heads(*paired.OPEN),
        lead=others[0].ratio if others else None,
    )
