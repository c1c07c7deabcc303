"""The interactive charts: what each offers to choose; `charts.js` draws them from the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings
from reports.findings.joined import Cell
from reports.findings.outcomes import COSTS, outcomes
from reports.results import PHASES

PARTS = {
    "peak_bytes": "peak",
    "parameters_bytes": "parameters",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer state",
    "total_bytes": "parameters, optimizer and peak",
}


@dataclass(frozen=True)
class Choice:
    """One thing to choose: `values` are (value, what is shown)."""

    name: str
    label: str
    values: tuple[tuple[str, str], ...]
    chosen: str


@dataclass(frozen=True)
class Chart:
    """An interactive chart's form.

    Attributes:
        kind: names what `charts.js` draws.
        choices: of what is drawn.
        heads: what can be left out, heads or, where trainings are drawn, variants.
        runs: likewise.
        scale: of the axes at first.
    """

    kind: str
    choices: tuple[Choice, ...]
    heads: tuple[str, ...]
    runs: tuple[str, ...]
    scale: str = "log"


def time(runs: Sequence[Findings], labels: Sequence[str]) -> Chart | None:
    """Time against the number of classes; None where nothing was timed. `labels` name the runs."""
    timed = [cell for cell in _alone(runs) if cell.seconds]
    if not timed:
        return None
    choices = (_phases(timed), _batches(timed, runs[0].batch))
    return Chart("time", choices, _heads(timed), tuple(labels))


def memory(runs: Sequence[Findings], labels: Sequence[str]) -> Chart | None:
    """Memory against the number of classes, likewise."""
    weighed = [cell for cell in _alone(runs) if cell.memory]
    if not weighed:
        return None
    part = Choice("part", "Memory", tuple(PARTS.items()), "peak_bytes")
    choices = (part, _phases(weighed), _batches(weighed, runs[0].batch))
    return Chart("memory", choices, _heads(weighed), tuple(labels))


def accuracy(runs: Sequence[Findings], labels: Sequence[str]) -> Chart | None:
    """Accuracy against what it costs, likewise."""
    rows = [row for findings in runs for row in outcomes(findings) if row.costs]
    if not rows:
        return None
    costs = tuple((c, name) for c, name in COSTS.items() if any(c in r.costs for r in rows))
    choice = Choice("cost", "Against", costs, costs[0][0])
    variants = tuple(dict.fromkeys(row.variant for row in rows))
    return Chart("accuracy", (choice,), variants, tuple(labels), scale="linear")


def _alone(runs: Sequence[Findings]) -> list[Cell]:
    return [c for f in runs if f.alone for c in f.cells if f.alone.holds(c)]


def _phases(cells: Iterable[Cell]) -> Choice:
    phases = {cell.phase for cell in cells}
    values = tuple((phase, PHASE_NAMES[phase]) for phase in PHASES if phase in phases)
    chosen = "train" if "train" in phases else values[0][0]
    return Choice("phase", "Phase", values, chosen)


def _batches(cells: Iterable[Cell], usual: int) -> Choice:
    batches = sorted({cell.batch for cell in cells})
    chosen = usual if usual in batches else batches[0]
    values = tuple((str(batch), f"{batch:,}") for batch in batches)
    return Choice("batch", "Batch size", values, str(chosen))


def _heads(cells: Iterable[Cell]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cell.head for cell in cells))
