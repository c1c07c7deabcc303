"""Says what a benchmark runs over, beside the benchmark itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from bench.cells import Visit

if TYPE_CHECKING:
    from bench.session import Session

Benchmark = TypeVar("Benchmark", bound=Callable[..., None])
Rows = Callable[["Session"], Sequence[Any]]
"""What there is to do in a session: visits of cells, or other objects."""


def over(names: str, rows: Rows) -> Callable[[Benchmark], Benchmark]:
    """Have pytest call the decorated benchmark once per row of the session.

    Args:
        names: parameters of the benchmark, separated by commas: attributes of a row, or of its
            cell where it is a visit. They are numbers and words, and identify the item.
        rows: gives the rows, without those that an earlier session has finished.
    """

    def attach(benchmark: Benchmark) -> Benchmark:
        benchmark.over = names.split(","), rows  # type: ignore[attr-defined]
        return benchmark

    return attach


def items(benchmark: Callable[..., None], session: Session) -> tuple[list[str], list[list[Any]]]:
    """Parameter names of a benchmark, and their values for each of its items."""
    names, rows = benchmark.over  # type: ignore[attr-defined]
    return names, [[_value(row, name) for name in names] for row in rows(session)]


def _value(row: Any, name: str) -> Any:
    return getattr(row.cell if isinstance(row, Visit) and name != "pass_index" else row, name)
