"""What a benchmark runs for each of, said beside it; and what its items are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import TypeVar

import pytest

from bench.cells import Block, Spare, Visit, timed_as
from bench.options import Plan
from bench.todo import Todo
from models.config import TrainingConfig
from reports.results import Cell

Task = Block | Visit | Cell | TrainingConfig | Spare
"""What is measured in turns or by itself, a cell to trace, a training, or what is left."""

Benchmark = TypeVar("Benchmark", bound=Callable[..., None])

_RUNS_FOR: dict[Callable[..., None], tuple[str, Callable[[Todo], Sequence[Task]]]] = {}

OF_THE_RUN = ("device", "threads")
"""Fields of a cell that the run decides: no two items differ in these alone."""

OPTIONAL = (
    *("dtype", "pipeline", "options", "labels", "state"),
    *("optimizer", "mode", "ranks", "model"),
)
"""Fields that are said only where they are not as usual."""

COMPILE_SECONDS = 8.0
"""That torch takes to compile a head, about, on two cores."""

RIVALS = ("head", "replica", "options", "labels", "state")
"""Fields that tell rivals apart."""


def for_each(name: str, left: Callable[[Todo], Sequence[Task]]) -> Callable[[Benchmark], Benchmark]:
    """Have pytest call the decorated benchmark once for each thing that is left to do.

    Args:
        name: the benchmark's parameter that takes it.
        left: gives what an earlier session has not finished.
    """

    def note(benchmark: Benchmark) -> Benchmark:
        _RUNS_FOR[benchmark] = name, left
        return benchmark

    return note


def kind_of(benchmark: str) -> str:
    """What a benchmark of this name measures, in a word."""
    return benchmark.partition("[")[0].removeprefix("test_")


def benchmarks() -> Mapping[str, Callable[..., None]]:
    """Every benchmark there is, by its kind; for a process that pytest does not drive."""
    for module in ("heads", "pipelines", "races", "training", "undecided"):
        import_module(f"bench.bench_{module}")
    return {kind_of(benchmark.__name__): benchmark for benchmark in _RUNS_FOR}


def left_of(todo: Todo) -> list[tuple[str, Task]]:
    """Kind and task of all that is left to do."""
    return [
        (kind, task)
        for kind, benchmark in benchmarks().items()
        for task in _RUNS_FOR[benchmark][1](todo)
    ]


def takes(benchmark: Callable[..., None]) -> str:
    """The parameter in which `benchmark` takes its task."""
    return _RUNS_FOR[benchmark][0]


def parametrize(metafunc: pytest.Metafunc, todo: Todo) -> None:
    """Turn what is left to do into pytest's items."""
    name, left = _RUNS_FOR[metafunc.function]
    tasks = left(todo)
    ids = ["-".join(map(str, identity(task).values())) for task in tasks]
    metafunc.parametrize(name, tasks, ids=ids)


def task_of(item: pytest.Item) -> Task:
    """What pytest's `item` is to carry out."""
    task: Task
    (task,) = vars(item)["callspec"].params.values()
    return task


def has_task(item: pytest.Item) -> bool:
    """Whether `item` carries out anything.

    In the place of a benchmark with nothing to do pytest puts one of its own, under a name that
    depends on its version.
    """
    return isinstance(task_of(item), Task)


def identity(task: Task) -> dict[str, str | int]:
    """What tells `task` from others of its benchmark, in words and numbers."""
    match task:
        case Visit(cell, pass_index):
            return _said(cell) | {"pass_index": pass_index}
        case Block(cells, pass_index):
            return _said(timed_as(cells[0]), but=RIVALS) | {"pass_index": pass_index}
        case Cell():
            return {"head": task.name}
        case Spare(minutes):
            return {"minutes": f"{minutes:g}"}
        case TrainingConfig():
            return {"variant": task.variant, "seed": task.seed}


def _said(cell: Cell, but: Sequence[str] = ()) -> dict[str, str | int]:
    return {
        one.name: getattr(cell, one.name)
        for one in fields(cell)
        if one.name not in (*OF_THE_RUN, *but)
        and not (one.name in OPTIONAL and getattr(cell, one.name) == one.default)
    }


def label(task: Task) -> str:
    """`task` in words."""
    named = identity(task).items()
    return " ".join(value if isinstance(value, str) else f"{name}={value}" for name, value in named)


def weight(task: Task, plan: Plan) -> float:
    """Rough seconds of `task` on a small CPU: how much of the time left it stands for."""
    match task:
        case Block(_, pass_index):
            return sum(weight(Visit(cell, pass_index), plan) for cell in task.timed)
        case Visit(cell):
            compiling = COMPILE_SECONDS if cell.mode == "compile" else 0.0
            return 0.04 + 2e-10 * cell.classes * cell.batch * cell.features + compiling
        case Spare():
            return 0.0
        case Cell():
            return 1.0
        case TrainingConfig():
            return plan.training_weight
