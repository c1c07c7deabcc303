"""A cell: everything that decides what a measured number means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

from reports.results import schema
from reports.results.fields import Record, checked, choice, count, name

Scope = Literal["isolated", "in-model", "pipeline"]
Phase = Literal["forward", "backward", "step", "train", "predict"]
State = Literal["untrained", "unsure", "sure"]
Mode = Literal["eager", "graph", "compile"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
PHASES: tuple[Phase, ...] = get_args(Phase)
STATES: tuple[State, ...] = get_args(State)
MODES: tuple[Mode, ...] = get_args(Mode)

WHOLE: tuple[Phase, ...] = ("train", "predict")
"""Phases that are calls of their own, and no parts of one: what can be captured, compiled or shared
by ranks."""

LONGEST_OPTIONS = 120

UNUSUAL = ("dtype", "labels", "state", "optimizer", "mode")
"""Fields that are said in a line only where they are not as usual."""


@dataclass(frozen=True)
class Cell(Record):
    """One point of the grid.

    Attributes:
        scope: the head alone on random features, on top of a model's body, or a pipeline that feeds
            both.
        head: a registered name.
        phase: what the clock sees.
        classes: size of the output.
        batch: samples per call: images, or words that are predicted.
        features: width of the head's input (in-model: what the model's body gives).
        dtype: of parameters and features; or how products are made of float32 ones: `tf32`,
            `autocast-bfloat16`.
        device: `cpu` or `cuda`.
        threads: torch's intra-op threads.
        replica: 1 marks the second half of an A/A pair.
        pipeline: how training steps are fed and computed; empty but in scope `pipeline`.
        options: of the head, as one would write them in a call, without blanks: `tree=huffman`;
            empty for the head as it comes.
        labels: how often the classes occur among targets: `uniform`, `zipf:1`, ...
        state: of the model that predicts: as built, or mean top probability low or high; phases
            other than `predict` know only `untrained`.
        optimizer: what makes the step; `sgd` is plain.
        mode: how calls are made: `eager`, replayed from captured CUDA graphs (`graph`), or of a
            module that went through `torch.compile` (`compile`).
        ranks: processes that share the head's classes, each with `threads` or a GPU of its own; the
            batch is the same on all. 1 is the head as it is.
        model: whose body the head sits on, where it sits on one.

    Raises:
        ValueError: a pipeline in another scope, or none in its own; a state in another phase; a
            mode other than `eager`, or several ranks, of a phase that is a part of a call.
    """

    scope: Scope = field(metadata=checked(choice, SCOPES))
    head: str = field(metadata=checked(name))
    phase: Phase = field(metadata=checked(choice, PHASES))
    classes: int = field(metadata=checked(count, 2))
    batch: int = field(metadata=checked(count, 1))
    features: int = field(metadata=checked(count, 1))
    dtype: str = field(default="float32", metadata=checked(name))
    device: str = field(default="cpu", metadata=checked(name))
    threads: int = field(default=1, metadata=checked(count, 1))
    replica: int = field(default=0, metadata=checked(count))
    pipeline: str = field(default="", metadata=checked(name, 0, later=True))
    options: str = field(default="", metadata=checked(name, 0, LONGEST_OPTIONS, later=True))
    labels: str = field(default="uniform", metadata=checked(name, later=True))
    state: State = field(default="untrained", metadata=checked(choice, STATES, later=True))
    optimizer: str = field(default="sgd", metadata=checked(name, later=True))
    mode: Mode = field(default="eager", metadata=checked(choice, MODES, later=True))
    ranks: int = field(default=1, metadata=checked(count, 1, later=True))
    model: str = field(default="tinyvgg", metadata=checked(name, later=True))

    def __post_init__(self) -> None:
        if bool(self.pipeline) != (self.scope == "pipeline"):
            raise ValueError(
                f"pipeline: expected a name in scope pipeline and none elsewhere, "
                f"got {self.pipeline!r} in {self.scope}"
            )
        if self.state != "untrained" and self.phase != "predict":
            raise ValueError(f"state: expected untrained in phase {self.phase}, got {self.state}")
        if self.mode != "eager" and self.phase not in WHOLE:
            raise ValueError(f"mode: expected eager in phase {self.phase}, got {self.mode}")
        if self.ranks != 1 and self.phase not in WHOLE:
            raise ValueError(f"ranks: expected 1 in phase {self.phase}, got {self.ranks}")

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `dump`, also of what older versions wrote.

        Raises:
            ValueError: a field is not what the format says; the message names it.
        """
        return super().load(schema.cell(record))

    @property
    def subject(self) -> Self:
        """The cell without its phase: what one built module with one batch can serve."""
        return replace(self, phase="train", state="untrained")

    @property
    def contest(self) -> Self:
        """The cell without what competes in it: what rivals have in common."""
        return replace(self, head="*", options="", replica=0)

    @property
    def name(self) -> str:
        """The head with its options, as in a call: `hierarchical(tree=huffman)`."""
        return f"{self.head}({self.options})" if self.options else self.head

    @property
    def label(self) -> str:
        """The cell in a line, without the threads that its run had; usual things go unsaid."""
        said = (
            f"{self.scope} {self.pipeline or self.name} {self.phase} "
            f"n={self.classes} batch={self.batch} d={self.features} {self.device}"
        )
        for one in fields(Cell):
            value = getattr(self, one.name)
            if one.name in UNUSUAL and value != one.default:
                said += f" {value}"
        return said + (f" {self.ranks} ranks" if self.ranks > 1 else "")


CELL = tuple(one.name for one in fields(Cell))
"""The fields of a cell, in their order."""
