"""What a machine is given to do at a time, and what has to be done on one and the same machine.

Whatever a report holds against each other belongs to one group, and a group to one machine: heads
at one batch size, at all class counts and in all passes, in every phase and on every other axis;
the variants of one seed. So growth, crossovers, A/A pairs and anchors are of one machine each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from bench.cells import Block, Spare, Visit
from bench.items import Task, label
from models.config import TrainingConfig
from reports.results import Cell, Entry

Group = tuple[str, int]
"""Scope and batch size, or "training" and the seed."""


@dataclass(frozen=True)
class Job:
    """One benchmark with one task: what one machine does by itself at a time."""

    kind: str
    task: Task

    @property
    def group(self) -> Group:
        """What it must share its machine with."""
        match self.task:
            case Block(cells):
                return of_cell(cells[0])
            case Visit(cell):
                return of_cell(cell)
            case Cell():
                return of_cell(self.task)
            case TrainingConfig():
                return "training", self.task.seed
            case Spare():
                raise AssertionError("a run on a cluster has no --minutes")

    @property
    def parts(self) -> tuple[Job, ...]:
        """The same cell by cell, where it is of several; else none."""
        if not isinstance(self.task, Block) or len(self.task.cells) == 1:
            return ()
        pass_index = self.task.pass_index
        return tuple(Job(self.kind, Block((cell,), pass_index)) for cell in self.task.cells)

    def __hash__(self) -> int:
        """Of its name, as settings of a training have no hash."""
        return hash(str(self))

    def __str__(self) -> str:
        alone = isinstance(self.task, Block) and len(self.task.cells) == 1
        task = self.task.visits[0] if alone and isinstance(self.task, Block) else self.task
        return f"{self.kind} {label(task)}"


def of_cell(cell: Cell) -> Group:
    """The group of whatever is measured of `cell`."""
    return cell.scope, cell.batch


def homes(entries: Iterable[Entry]) -> Mapping[Group, str]:
    """Group -> the machine that measures it: that of its last line in the journal."""
    return {of_cell(entry.cell): entry.machine for entry in entries}


def standing(entries: Collection[Entry], moved: Mapping[Group, str]) -> list[Entry]:
    """The entries that count: those of each group's own machine.

    Args:
        entries: of the journal, in their order.
        moved: groups that are measured anew elsewhere than on this machine, all of them; until the
            first line of the other one there is nothing of them.
    """
    home = homes(entries)
    return [
        entry
        for entry in entries
        if entry.machine == home[group := of_cell(entry.cell)] != moved.get(group)
    ]
