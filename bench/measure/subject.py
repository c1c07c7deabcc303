"""The subjects of cells: built when they are first asked for, kept for the cells' other phases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import pytest

from bench import peers
from bench.cells import contest, grouped
from bench.measure import memory, modes
from bench.measure.workload import Workload, acquaint, why_not, why_unsuitable
from reports.results import Cell


class Subjects:
    """What is built: rivals that are measured in turns, as many as fit into memory together."""

    def __init__(self) -> None:
        self._built: dict[Cell, Workload | peers.Trainer] = {}
        self._free: dict[str, int] = {}
        self._group: Cell | None = None
        self._room = 0.0

    def of(self, cell: Cell) -> Workload | peers.Trainer:
        """The subject of `cell`, beside those that are built already.

        Raises:
            pytest.skip.Exception: it is absent here, or cannot fit into memory.
        """
        reason = peers.why_not(cell) or why_unsuitable(cell) or why_not(cell)
        if reason := reason or memory.why_it_cannot_fit(
            peers.measured_as(cell), self._free_bytes(cell.device)
        ):
            pytest.skip(reason)
        if cell.subject not in self._built:
            trainer = peers.trainer(cell.head)
            if trainer is None:
                acquaint(cell)
            self._built[cell.subject] = (trainer or _workload)(cell)
        return self._built[cell.subject]

    def module_of(self, cell: Cell) -> Workload:
        """The subject of `cell`, which is no library that trains by itself; and no other."""
        self.forget(all_but=[cell])
        workload = self.of(cell)
        assert isinstance(workload, Workload)  # else there would be no such item
        return workload

    def parts(self, rivals: Sequence[Cell]) -> Iterator[list[Cell]]:
        """`rivals` of one contest in parts that fit into memory; the rest is forgotten before."""
        group = contest(rivals[0]).subject
        if group != self._group:
            self.forget()
            self._group, self._room = group, memory.HEADROOM * self._free_bytes(group.device)
        names = [rival.name for rival in rivals]
        together = sorted(rivals, key=lambda rival: names.index(rival.name))  # the A/A pair
        cells = grouped(together, lambda rival: rival.subject)
        parts = packed(list(cells), list(map(needed, cells)), self._room)
        # What is built has its turn before it has to go.
        parts.sort(key=lambda part: not any(subject in self._built for subject in part))
        for part in parts:
            self.forget(all_but=part)
            yield [cell for subject in part for cell in cells[subject]]

    def discard(self, cell: Cell) -> None:
        """Free the subject of `cell`."""
        self._built.pop(cell.subject, None)

    def forget(self, all_but: Iterable[Cell] = ()) -> None:
        """Free what is built, but for the subjects of some cells."""
        kept = {cell.subject for cell in all_but}
        self._built = {cell: built for cell, built in self._built.items() if cell in kept}
        if not self._built:
            self._free.clear()
            modes.forget()

    def _free_bytes(self, device: str) -> int:
        """What was free when nothing was built: rivals are not in each other's way."""
        if device not in self._free:
            self._free[device] = memory.free_bytes(device)
        return self._free[device]


def _workload(cell: Cell) -> Workload:
    """The workload of a cell, of however many ranks."""
    if cell.ranks == 1:
        return Workload(cell)
    from bench.measure.sharded import Leader  # what it takes of torch is slow to import

    return Leader(cell)


def needed(cell: Cell) -> int:
    """Bytes that the subject of `cell` may hold at once, whatever its phase; 0 if there is none.

    Why it cannot is said where it is tried.
    """
    if peers.why_not(cell) or why_unsuitable(cell) or why_not(cell):
        return 0
    try:
        return _needed(peers.measured_as(cell).subject)
    except Exception:
        return 0


@lru_cache(maxsize=64)
def _needed(subject: Cell) -> int:
    return max(memory.predicted_bytes(replace(subject, phase=p)) for p in ("train", "predict"))


Item = TypeVar("Item")


def packed(items: Sequence[Item], needs: Sequence[float], room: float) -> list[list[Item]]:
    """`items` in their order, in parts that need no more than `room`, where single ones do not."""
    parts: list[list[Item]] = []
    left = -1.0
    for item, need in zip(items, needs, strict=True):
        if need > left:
            parts.append([])
            left = room
        parts[-1].append(item)
        left -= need
    return parts
