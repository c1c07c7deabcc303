"""How each head's cost grows with the classes: counted, in memory, and timed, side by side.

The three kinds of evidence can disagree, and what that means is half of the answer: a path of
O(log n) multiply-adds whose gradient has O(n) bytes takes O(n) time in the end.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from reports.findings.joined import Cell
from reports.stats import complexity, paired
from reports.stats.complexity import Verdict

ORDERS = complexity.MODELS
MISFITS = (0.02, 0.10)
"""A formula goes through its own counts; what is a little off is a sum over the levels of a tree
whose lowest one is partly filled, or a sparse gradient in which samples share rows. The strict
misfit is tried first, so that a change of algorithm is not smoothed over."""

NEGLIGIBLE = 0.001
"""A part of the whole that no count would miss."""

FEWEST_SIZES = 4
"""Two terms go through almost any three points."""

FRESH = 2.0
"""A page that the allocator has given back is written twice, as zeros and by the program."""

LEAST_STEP, MOST_STEP = 2.0, complexity.STEP
"""Caches faster or slower than that were measured while something else ran."""


@dataclass(frozen=True)
class Order:
    """The growth of an exact figure: a count or a number of bytes.

    Attributes:
        model: the fastest growing term that it holds.
        since: the size from which on one formula holds, as a head may change its algorithm; 0
            where it holds for all sizes.
    """

    model: str
    since: int


@dataclass(frozen=True)
class Growth:
    """Three kinds of evidence on one head and phase; None where there is none.

    Attributes:
        multiply_adds: counted from the head's formulas.
        bytes: bytes that have to move, counted likewise.
        memory: peak above the baseline.
        time: the verdict on the measured seconds, beside the counts: most of the belief in a
            growth was theirs before the clock was read.
        since: the class count from which on the times are judged, as the head changes its algorithm
            there; 0 where it does not.
        step: the machine's `allowance` for caches.
    """

    head: str
    phase: str
    multiply_adds: Order | None
    bytes: Order | None
    memory: Order | None
    time: Verdict | None
    since: int = 0
    step: float = complexity.STEP


def order(sizes: Sequence[float], values: Sequence[float | None]) -> Order | None:
    """Growth of noise-free `values` at `sizes`, or None where no sum of the models' terms fits.

    The slowest growth that explains the values: a sum of the terms of `ORDERS` with coefficients
    of at least 0, as few of the fast terms as fit when at most half of the sizes, the small ones,
    are left out. The logarithm is rounded up, as the depth of a tree is. From some size on all may
    be more, or less, by one factor, as where work that was kept is done again from there.
    """
    known = [(n, y) for n, y in zip(sizes, values, strict=True) if y is not None]
    points = [(n, y) for n, y in known if y > 0]
    if known and not points:
        return Order(ORDERS[0], 0)
    n, y = np.array(points, dtype=float).reshape(-1, 2).T
    droppable = len(n) - max(FEWEST_SIZES, len(n) // 2)
    linear = ORDERS.index("O(n)") + 1
    slow, fast = range(linear), range(linear, len(ORDERS))
    strict, loose = MISFITS
    # What rounding leaves a linear sum off is no reason to call its upper half n log n.
    for models, misfit, drop, fits in (
        (slow, strict, droppable, _fits),
        (slow, strict, droppable, _fits_with_step),
        (fast, strict, min(0, droppable), _fits),
        (slow, loose, droppable, _fits),
        (fast, loose, droppable, _fits),
    ):
        for index in models:
            for first in range(drop + 1):
                if fits(n[first:], y[first:], index + 1, misfit):
                    return Order(ORDERS[index], int(n[first]) if first else 0)
    return None


def _fits_with_step(n: np.ndarray, y: np.ndarray, terms: int, misfit: float) -> bool:
    """Whether a sum of what most sizes make, from some size on times one factor, explains them all.

    Two sizes or more have to agree on the factor.
    """
    for split in range(max(FEWEST_SIZES, len(n) // 2), len(n) - 1):
        explained, used = _explained(n, y, terms, split)
        factors = 1 / explained[split:]
        within = np.abs(explained[:split] - 1).max() <= misfit
        if within and used + 2 <= split and np.ptp(factors) <= misfit * factors.min():
            return True
    return False


def _fits(n: np.ndarray, y: np.ndarray, terms: int, misfit: float) -> bool:
    """Whether a sum of the first `terms` of `ORDERS` explains every value to within `misfit`.

    A sum that needs almost as many terms as there are values explains nothing.
    """
    explained, used = _explained(n, y, terms, len(n))
    return bool(np.abs(explained - 1).max() <= misfit and used + 2 <= len(n))


def _explained(n: np.ndarray, y: np.ndarray, terms: int, fitted: int) -> tuple[np.ndarray, int]:
    """What the best sum for the first `fitted` values makes of all, as shares; terms it needs."""
    depth = np.ceil(np.log2(n))
    g = np.column_stack([np.ones_like(n), depth, np.sqrt(n), n, n * depth, n**2])[:, :terms]
    relative = g / y[:, None]
    # The constant may be negative: a tree over n classes has n - 1 nodes.
    signed = np.column_stack([relative, -relative[:, 0]])
    weights, _ = optimize.nnls(signed[:fitted], np.ones(fitted))
    parts = signed * weights
    used = np.count_nonzero(np.abs(parts[:fitted]).max(axis=0) > NEGLIGIBLE)
    return parts.sum(axis=1), int(used)


def allowance(machine: Mapping[str, Any]) -> float:
    """How many times as much a class may cost outside the caches of a `machine` as inside.

    The speeds of a copy inside and outside say so, and memory fetched anew is written twice.
    Where they were not measured, `complexity.STEP`.
    """
    inside, outside = (
        machine.get(name) for name in ("cache_copy_bytes_per_second", "copy_bytes_per_second")
    )
    if not (isinstance(inside, int | float) and isinstance(outside, int | float) and outside > 0):
        return complexity.STEP
    return min(MOST_STEP, max(LEAST_STEP, FRESH * inside / outside))


def growths(cells: Iterable[Cell], step: float = complexity.STEP) -> tuple[Growth, ...]:
    """The evidence on every head and phase.

    Args:
        cells: of one setting and one batch size.
        step: the machine's `allowance`.
    """
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell.classes):
        groups[cell.head, cell.phase].append(cell)
    works = {
        place: order([c.classes for c in group], [c.multiply_adds for c in group])
        for place, group in groups.items()
    }
    # A head changes its algorithm at one size, the same in all phases; some show it a size late.
    since: dict[str, int] = defaultdict(int)
    for (head, _), work in works.items():
        since[head] = max(since[head], work.since if work else 0)
    return tuple(
        _growth(head, phase, group, works[head, phase], since[head], step)
        for (head, phase), group in groups.items()
    )


def _growth(
    head: str, phase: str, group: Sequence[Cell], work: Order | None, since: int, step: float
) -> Growth:
    sizes = [cell.classes for cell in group]
    moved = order(sizes, [cell.bytes for cell in group])
    # Times of another algorithm, which small sizes run, are no evidence of how the rest grows.
    judged = [cell for cell in group if cell.samples and cell.classes >= since]
    samples = [list(cell.samples) for cell in judged]
    if judged and all(cell.anchors for cell in judged):
        samples = paired.without_drift(samples, [cell.anchors for cell in judged])
    return Growth(
        head=head,
        phase=phase,
        multiply_adds=work,
        bytes=moved,
        memory=order(sizes, [cell.memory.peak if cell.memory else None for cell in group]),
        time=complexity.classify(
            [cell.classes for cell in judged],
            [np.concatenate(passes) for passes in samples],
            expected=[counted.model for counted in (work, moved) if counted],
            step=step,
        )
        if len(judged) > 1
        else None,
        since=since,
        step=step,
    )


def rank(model: str) -> float:
    """Place of a growth among others; raises KeyError on "inconclusive"."""
    if power := re.fullmatch(r"O\(n\^(\d+\.\d+)\)", model):
        return float(power[1])
    return dict(zip(ORDERS, (0.0, 0.01, 0.5, 1.0, 1.01, 2.0), strict=True))[model]


def reading(growth: Growth) -> str:
    """One sentence on what the three kinds of evidence say together."""
    work, moved, time = growth.multiply_adds, growth.bytes, growth.time
    said = []
    if work and moved and rank(moved.model) > rank(work.model):
        said.append(
            f"The arithmetic grows like {work.model}, but {moved.model} bytes have to move"
            + (", as the gradient holds every row" if growth.phase in ("backward", "train") else "")
            + "."
        )
    elif work and moved and rank(moved.model) < rank(work.model):
        said.append(f"{work.model} arithmetic on {moved.model} bytes.")
    if growth.since:
        said.append(f"Judged from {growth.since:,} classes on, where its algorithm changes.")
    exact = [found.model for found in (work, moved) if found]
    if time is None:
        said.append("Not timed.")
    elif not time.within:
        said.append(f"The times leave it open: {time.reason}.")
    else:
        if time.either:
            said.append(f"By the times it is {time.said}: {time.reason}.")
        if exact:
            said.append(_beside(time.within, max(exact, key=rank), same=work == moved))
        if time.warning:
            said.append(f"{time.warning}.")
    return " ".join(said)


def _beside(timed: Sequence[str], counted: str, *, same: bool) -> str:
    """What the growths that the clock leaves say beside the counted one."""
    said = " or ".join(timed)
    if min(map(rank, timed)) > rank(counted):
        return (
            f"The time grows faster ({said}) than the counted work ({counted}): "
            f"something outside the formulas grows with the classes."
        )
    if max(map(rank, timed)) < rank(counted):
        return (
            f"The time still grows slower ({said}) than the counted work ({counted}): "
            f"in this range its fixed part hides the growth."
        )
    if len(timed) > 1:
        return f"By the counts it is {counted}."
    return "Counts and clock agree." if same else "The clock agrees."
