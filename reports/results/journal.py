"""The run's journal: one JSON line per measured cell, on disk before the next cell begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np

from reports.results.cell import Cell
from reports.results.fields import (
    SHORTEST,
    Record,
    alike,
    checked,
    choice,
    count,
    durations,
    each,
    flag,
    machine_name,
    mapping,
    name,
    number,
    numbers,
    one,
    optional,
    seconds,
    text,
)
from reports.results.files import Reader, append_line

Kind = Literal["time", "device", "memory", "communication", "split", "search"]
Status = Literal["measured", "skipped", "out-of-memory", "failed"]

STATUSES: tuple[Status, ...] = get_args(Status)
PARTS = ("data", "forward", "head", "backward", "optimizer")
"""Of a training step."""

COLLECTIVES = ("all_gather", "all_reduce", "reduce_scatter", "broadcast")
"""What the ranks of a sharded head call together."""

METHODS = ("exact", "greedy", "all")
"""A tree head's ways to a prediction."""


@dataclass(frozen=True)
class Planted(Record):
    """How far the features of a prediction are what they were made to be.

    Attributes:
        agreement: share of the samples whose predicted class is the one drawn from the labels.
        confidence: mean probability of the predicted class.
    """

    agreement: float = field(metadata=checked(number, 0, 1))
    confidence: float = field(metadata=checked(number, 0, 1))


@dataclass(frozen=True, eq=False)
class Time(Record):
    """Seconds per call.

    Attributes:
        seconds: one per round, each the mean of `iterations` calls: (rounds,).
        iterations: calls per round.
        warmup_seconds: the rounds before the clock counted: (rounds,).
        multiply_adds: counted from the head's formulas for this batch; None where it has none.
        bytes: counted likewise.
        others_busy: share of the machine's CPU time that other programs used meanwhile.
        block: what was measured call by call in turns with it, in the same pass, bears the same
            name; empty where it was measured by itself.
        turns: of each round, in which turn of its block it was; empty without a block: (rounds,).
        minor_faults: pages that a call had to be given anew, the mean; None if not counted.
        system_seconds: of a call, spent in the operating system, the mean; None likewise.
        planted: of a prediction whose state is not `untrained`; None where the state is nothing
            that its work could depend on.
        any_labels: whether the head's work in this phase is the same whatever the labels and the
            state, so that its figures hold for all.
        same_as: the head whose calls of this phase are the very same code on weights of the same
            sizes, so that their times differ by noise alone; empty for one that has its own.
        computes: of a peer, the head of ours whose function it computes, whose counted work is then
            the least that the peer has to do; empty for heads of ours, and for peers that compute
            something else.
        anchor_seconds: of a call of the one cell that all blocks share, in the order of the turns
            of this block that it took part in; empty without one.
        graph_breaks: of a compiled call, how often it leaves compiled code; None of any other.

    Raises:
        ValueError: there are turns, and not as many as rounds.
    """

    seconds: np.ndarray = field(metadata=checked(durations))
    iterations: int = field(metadata=checked(count, 1))
    warmup_seconds: np.ndarray = field(metadata=checked(durations, 0))
    multiply_adds: int | None = field(default=None, metadata=checked(optional, count, later=True))
    bytes: int | None = field(default=None, metadata=checked(optional, count, later=True))
    others_busy: float | None = field(default=None, metadata=checked(optional, number, later=True))
    block: str = field(default="", metadata=checked(name, 0, later=True))
    turns: tuple[int, ...] = field(default=(), metadata=checked(each, count, later=True))
    minor_faults: float | None = field(default=None, metadata=checked(optional, number, later=True))
    system_seconds: float | None = field(
        default=None, metadata=checked(optional, number, later=True)
    )
    planted: Planted | None = field(
        default=None, metadata=checked(optional, one, Planted, later=True)
    )
    any_labels: bool = field(default=False, metadata=checked(flag, later=True))
    same_as: str = field(default="", metadata=checked(name, 0, later=True))
    computes: str = field(default="", metadata=checked(name, 0, later=True))
    anchor_seconds: tuple[float, ...] = field(
        default=(), metadata=checked(each, number, later=True)
    )
    graph_breaks: int | None = field(default=None, metadata=checked(optional, count, later=True))

    def __post_init__(self) -> None:
        if len(self.turns) not in (0, len(self.seconds)):
            raise ValueError(
                f"turns: expected none or {len(self.seconds)}, one per round, got {len(self.turns)}"
            )

    @property
    def too_short(self) -> bool:
        """Whether the clock was too coarse to see it."""
        return bool(np.median(self.seconds) < SHORTEST)


@dataclass(frozen=True, eq=False)
class Device(Record):
    """A GPU's two clocks: what a call occupies of the device, and what issuing it costs the host.

    Attributes:
        device_seconds: one per round, of a captured graph's replay, or of one call's kernels
            together where it could not be captured: (rounds,).
        host_seconds: one per call, until it returns: (calls,).
        kernel_seconds: of one call's kernels together, the median, for comparison.
        launches: kernels, copies and fills of a call.
        captured: whether a graph was.
        why_not: one line, empty where it was.
    """

    device_seconds: np.ndarray = field(metadata=checked(durations))
    host_seconds: np.ndarray = field(metadata=checked(durations))
    kernel_seconds: float = field(metadata=checked(seconds))
    launches: int = field(metadata=checked(count))
    captured: bool = field(metadata=checked(flag))
    why_not: str = field(metadata=checked(text))

    @property
    def too_short(self) -> bool:
        """Whether the clock was too coarse to see it."""
        return bool(np.median(self.device_seconds) < SHORTEST)


@dataclass(frozen=True)
class Memory(Record):
    """Bytes of one phase (`peak`, above the baseline before it) and of what the module keeps."""

    peak_bytes: int = field(metadata=checked(count))
    parameter_bytes: int = field(metadata=checked(count))
    gradient_bytes: int = field(metadata=checked(count))
    optimizer_bytes: int = field(metadata=checked(count))

    too_short = False


@dataclass(frozen=True, eq=False)
class Communication(Record):
    """What the ranks of a sharded head tell each other in a call, as the first of them sees it.

    Attributes:
        call_seconds: one per call, all of it: (calls,).
        told_seconds: of these, between the begin and the end of its collectives, waiting for the
            other ranks included: (calls,).
        collectives: of a call, as seen.
        bytes: that each rank has to send in a call, as seen: see `heads.sharding.Communication`.
        counted_collectives: the same from the head's formulas.
        counted_bytes: likewise.
        sent: of `bytes`, by the name of the collective, each of `COLLECTIVES`; None where only
            their sum is known.

    Raises:
        ValueError: the one are not as many as the other.
    """

    call_seconds: np.ndarray = field(metadata=checked(durations))
    told_seconds: np.ndarray = field(metadata=checked(durations))
    collectives: int = field(metadata=checked(count))
    bytes: int = field(metadata=checked(count))
    counted_collectives: int = field(metadata=checked(count))
    counted_bytes: int = field(metadata=checked(count))
    sent: Mapping[str, float] | None = field(
        default=None, metadata=checked(optional, numbers, COLLECTIVES, later=True)
    )

    too_short = False

    def __post_init__(self) -> None:
        calls, told = len(self.call_seconds), len(self.told_seconds)
        if calls != told:
            raise ValueError(f"told_seconds: expected {calls}, one per call, got {told}")


@dataclass(frozen=True, eq=False)
class Split(Record):
    """Where the time of training steps goes.

    Attributes:
        parts: each of `PARTS` -> seconds, one per step: (steps,).
        flops_per_image: floating-point operations of a step per image, counted; None if they were
            not.
    """

    parts: Mapping[str, np.ndarray] = field(metadata=checked(alike, PARTS))
    flops_per_image: int | None = field(
        default=None, metadata=checked(optional, count, 1, later=True)
    )

    @property
    def too_short(self) -> bool:
        """Whether the clock was too coarse to see every step."""
        return bool(np.min(np.sum(list(self.parts.values()), axis=0)) < SHORTEST)


@dataclass(frozen=True, eq=False)
class Race(Record):
    """A tree head's ways to a prediction on one model: `METHODS` in turns, round by round.

    Attributes:
        seconds: method -> seconds per batch, (rounds,), as many for each.
        scores: method -> scores computed per sample.
        samples: how many samples were answered by both searches.
        misses: how many of them greedy answers otherwise than exact.
        right: how many the exact answer is right for.

    Raises:
        ValueError: more misses or right answers than samples.
    """

    seconds: Mapping[str, np.ndarray] = field(metadata=checked(alike, METHODS))
    scores: Mapping[str, float] = field(metadata=checked(numbers, METHODS))
    samples: int = field(metadata=checked(count, 1))
    misses: int = field(metadata=checked(count))
    right: int = field(metadata=checked(count))

    def __post_init__(self) -> None:
        for part in ("misses", "right"):
            count(vars(self), part, 0, self.samples)


@dataclass(frozen=True, eq=False)
class Search(Record):
    """The races on a fresh model, and on one after a quick training on clustered classes."""

    untrained: Race = field(metadata=checked(one, Race))
    trained: Race = field(metadata=checked(one, Race))

    @property
    def too_short(self) -> bool:
        """Whether the clock was too coarse to see every round."""
        races = (self.untrained, self.trained)
        return any(np.min(taken) < SHORTEST for race in races for taken in race.seconds.values())


Figures = Time | Device | Memory | Communication | Split | Search

KINDS: Mapping[Kind, type[Figures]] = {
    "time": Time,
    "device": Device,
    "memory": Memory,
    "communication": Communication,
    "split": Split,
    "search": Search,
}
PLACES: Mapping[Kind, tuple[str, str]] = {
    "split": ("in-model", "train"),
    "search": ("isolated", "predict"),
}
"""Scope and phase of the cells of a kind, where it is not measured of all."""

MEMORY = tuple(one.name for one in fields(Memory))
MODELS = tuple(one.name for one in fields(Search))


@dataclass(frozen=True, eq=False)
class Entry:
    """One line of the journal.

    Attributes:
        kind: what was measured.
        status: `measured`, or why there are no figures.
        cell: what the figures belong to.
        pass_index: which pass over the grid.
        reason: one line, empty when measured.
        figures: what was measured, of the class in `KINDS`; None when it was not.
        session: which of the run's sessions measured it, from 1 on; see `run.json`.
        machine: of a run on a cluster, which of its machines measured it; else empty.
    """

    kind: Kind
    status: Status
    cell: Cell
    pass_index: int
    reason: str
    figures: Figures | None
    session: int = 1
    machine: str = ""

    @property
    def key(self) -> tuple[Kind, Cell, int]:
        """What makes the entry one of a kind within a run."""
        return self.kind, self.cell, self.pass_index

    def dump(self) -> dict[str, Any]:
        """The line as it is written."""
        line: dict[str, Any] = {
            "kind": self.kind,
            "status": self.status,
            "cell": self.cell.dump(),
            "pass": self.pass_index,
            "session": self.session,
            "written": datetime.now(UTC).isoformat(timespec="milliseconds"),
        } | ({"machine": self.machine} if self.machine else {})
        if self.figures is None:
            return line | {"reason": self.reason}
        return line | self.figures.dump()

    @classmethod
    def load(cls, line: Mapping[str, Any]) -> Self:
        """Inverse of `dump`.

        Raises:
            ValueError: a field is not what the format says; the message names it.
        """
        kind, status = choice(line, "kind", tuple(KINDS)), choice(line, "status", STATUSES)
        cell, index = Cell.load(mapping(line, "cell")), count(line, "pass")
        session = count(line, "session", 1) if "session" in line else 1
        machine = machine_name(line, "machine") if "machine" in line else ""
        where = session, machine
        if (wanted := PLACES.get(kind)) and (cell.scope, cell.phase) != wanted:
            raise ValueError(f"kind {kind!r} is measured of {' '.join(wanted)} cells alone")
        if cell.scope == "pipeline" and kind != "time":
            raise ValueError(f"kind {kind!r} is not measured of a pipeline")
        if status != "measured":
            return cls(kind, status, cell, index, text(line, "reason"), None, *where)
        return cls(kind, status, cell, index, "", KINDS[kind].load(line), *where)


class Journal:
    """The entries of a run's folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, entry: Entry) -> None:
        """Write one line and wait until the disk has it.

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        append_line(self._path, entry.dump())

    def entries(self, reader: Reader | None = None) -> list[Entry]:
        """What was written so far; lines that are torn or foreign are left out.

        Args:
            reader: of the folder, to be told of them.
        """
        if reader is None:
            reader = Reader(self._path.parent)
        return reader.lines(self._path.name, Entry.load)
