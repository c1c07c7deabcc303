"""A cell: everything that decides what a measured number means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

from reports.results import schema
from reports.results.fields import Record, checked, choice, count, name

Scope = Literal["isolated", "in-model", "pipeline"]
Phase = Literal["forward", "backward", "step", "train", "predict"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Cell(Record):
    """One point of the grid.

    Attributes:
        scope: the head alone on random features, on top of TinyVGG, or a pipeline that feeds both.
        head: a registered name.
        phase: what the clock sees.
        classes: size of the output.
        batch: samples per call.
        features: width of the head's input (in-model: what TinyVGG's body gives).
        dtype: of parameters and features.
        device: `cpu` or `cuda`.
        threads: torch's intra-op threads.
        replica: 1 marks the second half of an A/A pair.
        pipeline: how training steps are fed and computed; empty but in scope `pipeline`.

    Raises:
        ValueError: a pipeline in another scope, or none in its own.
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

    def __post_init__(self) -> None:
        if bool(self.pipeline) != (self.scope == "pipeline"):
            raise ValueError(
                f"pipeline: expected a name in scope pipeline and none elsewhere, "
                f"got {self.pipeline!r} in {self.scope}"
            )

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
        return replace(self, phase="train")


CELL = tuple(one.name for one in fields(Cell))
"""The fields of a cell, in their order."""
