"""The workload of a cell of several ranks: as any other, but that other processes do it as well."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

import heads
from bench.measure import team
from bench.measure.planting import Planted
from bench.measure.timing import Call, Timed
from bench.measure.workload import Workload, build_module
from heads import Phase
from heads.sharding import Communication, Sharded, shardable
from models.classifier import Classifier
from reports.results import Cell
from reports.results.cell import State

WHOLE_BYTES = 2**30
"""Of parameters, up to which each rank builds the whole head, and keeps its part of it; of a larger
one, it draws its part alone."""


class Member(Workload):
    """A rank's part of a workload.

    Args:
        cell: of several ranks.
        seed: of parameters, inputs and targets, which are the same on all ranks.
        mesh: the ranks.
    """

    def __init__(self, cell: Cell, seed: int, mesh: DeviceMesh) -> None:
        self._mesh = mesh
        super().__init__(cell, seed)

    def build(self, cell: Cell) -> nn.Module:
        """The module, its head spread over the ranks."""
        dtype = self.precision.parameters
        with torch.device("meta"):
            module: Any = build_module(cell).to(dtype)
        small = sum(p.numel() * p.element_size() for p in module.parameters()) <= WHOLE_BYTES
        if small or isinstance(module, Classifier):
            with self.device:
                module = build_module(cell).to(dtype)
        dense = cell.optimizer != "sgd"
        if not isinstance(module, Classifier):
            return heads.shard(module, self._mesh, dense=dense)
        module.head = heads.shard(module.head, self._mesh, dense=dense)
        return module

    @property
    def sharded(self) -> Sharded:
        """The head, wherever it sits."""
        head = self.head
        assert isinstance(head, Sharded)
        return head

    def planted(self, state: State) -> Planted | None:
        """None: every rank scores all of its classes, whatever is predicted."""
        return None

    def get_ready(self, phase: Phase) -> None:
        """Prepare for calls of `phase`."""
        self._ready = super().prepare(phase)

    def play(self, calls: int) -> None:
        """Make so many of them, when the others are there."""
        team.meet(self._mesh)
        for _ in range(calls):
            self._ready.once()

    def hold(self) -> None:
        """Do what `held_bytes` does."""
        _ = super().held_bytes


class Leader(Member):
    """The first rank's part, which tells the others what it does.

    Args:
        cell: of several ranks.
        seed: as of any workload.
    """

    def __init__(self, cell: Cell, seed: int = 0) -> None:
        self._team = team.of(cell.ranks, cell.device, cell.threads)
        self._number, self._ranks = self._team.number(), cell.ranks
        self._tell("build", cell.dump(), seed)
        weakref.finalize(self, _forget, self._team, cell.ranks, self._number)
        super().__init__(cell, seed, self._team.meshes[cell.ranks])

    def prepare(self, phase: Phase, state: State = "untrained") -> Timed:
        """What to call, the others with it, after they have been told how often."""
        self._tell("get_ready", phase)
        timed = super().prepare(phase, state)

        def company(calls: int) -> None:
            self._tell("play", calls)
            self._team.wait_for(self._ranks)

        return Timed(self._guarded(timed.call), company=company)

    @cached_property
    def held_bytes(self) -> tuple[int, int, int]:
        """Of this rank: bytes of parameters, gradients and the optimizer's state."""
        self._tell("hold")
        return super().held_bytes

    def told(self, phase: Phase) -> Communication:
        """What the ranks tell each other in a call of `phase`, counted."""
        return self.sharded.communication(phase, self._cell.batch)

    def _tell(self, verb: str, *rest: Any) -> None:
        self._team.tell(self._ranks, verb, self._number, *rest)

    def _guarded(self, call: Call) -> Call:
        """A call after whose failure nobody waits for this rank."""

        def guarded() -> None:
            try:
                call()
            except Exception as error:
                raise self._team.lost(error) from error

        return guarded


def _forget(members: team.Team, ranks: int, number: int) -> None:
    with suppress(Exception):
        members.tell(ranks, "forget", number)


def why_not(cell: Cell) -> str:
    """A line that says why the head of `cell` cannot be spread over its ranks, or nothing."""
    if cell.head not in heads.names():
        return f"{cell.head} is a peer, which cannot be spread over ranks"
    if cell.mode != "eager":
        return f"calls of several ranks are made as they are written, not in mode {cell.mode}"
    with torch.device("meta"):
        module: Any = build_module(cell)
    if not shardable(getattr(module, "head", module)):
        return f"{cell.name} cannot be spread over ranks"
    there = torch.cuda.device_count() if cell.device != "cpu" else processors()
    if there < cell.ranks:
        what = "GPUs" if cell.device != "cpu" else "processors"
        return f"{cell.ranks} ranks need as many {what}, and there are {there}"
    return ""


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
