"""`python -m reports.compare RUN_A RUN_B`: cell by cell, did B become faster or slower than A?"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import false_discovery_control

from reports import terminal, units
from reports.arguments import Parser, number
from reports.findings.joined import join, scatter
from reports.results import ResultsError, load, locate
from reports.stats import estimates
from reports.stats.estimates import Change, Interval, LogRatio, Passes, Scatter
from reports.terminal import Column

ROWS = 25
"""A terminal page; `--all` shows every cell."""

COLUMNS = {
    "cell": Column(readable=24),
    "time ratio": Column(number=True, given_up=1),
    "change": Column(given_up=2),
}

THRESHOLD = 0.1
"""What three passes on a machine that others share can resolve."""

RATE = 0.05
"""Of the cells called faster or slower, the share that may be called so wrongly."""

STEADY = 0.03
"""Two runs of one quiet machine agree within this share in the median over all cells."""

BLOCKS = 5
"""Parts that the rounds of a benchmark with one pass are cut into."""

MACHINE = ("host", "cpu", "gpu", "threads", "torch")
"""Facts that make two runs incomparable as versions of one thing when they differ."""


@dataclass(frozen=True)
class Measured:
    """The timings of one side, wherever they came from.

    Attributes:
        name: what to call it.
        cells: label of a cell -> its passes.
        known: how much passes scatter on that side.
        machine: facts to tell machines apart; empty if unknown.
    """

    name: str
    cells: Mapping[str, Passes]
    known: Scatter
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """One cell on both sides: `ratio` is the time of B over that of A."""

    cell: str
    ratio: Interval
    change: Change


@dataclass(frozen=True)
class Compared:
    """All cells that both sides have, slowest change first, and what they have in common.

    Attributes:
        shift: the factor that B's cells are slower by in the median.
    """

    cells: tuple[Comparison, ...]
    shift: Interval

    @property
    def counts(self) -> Counter[Change]:
        """How many cells changed, and how."""
        return Counter(comparison.change for comparison in self.cells)

    def agreeing(self, share: float) -> float:
        """The share of the cells whose estimates agree within `share`."""
        near = [abs(math.log(c.ratio.estimate)) <= math.log1p(share) for c in self.cells]
        return sum(near) / len(near)


def compare(old: Measured, new: Measured, threshold: float, relative: bool = False) -> Compared:
    """Every cell that both sides have.

    A cell is "slower" or "faster" where its ratio is certainly beyond the threshold: of those so
    called, at most 5 % are so wrongly (Benjamini and Hochberg, Journal of the Royal Statistical
    Society B 57, 1995), and where no cell changed by more than the threshold, the chance that any
    is so called is at most 5 %. It is the "same" where the probability that it changed by no more
    than the threshold is at least 95 %, given how seldom the other cells did; else "ambiguous".

    Args:
        old: side A.
        new: side B.
        threshold: relative differences within it do not count.
        relative: whether to take the shift that all cells have in common for the machine's, and to
            judge each cell beside it.

    Raises:
        ResultsError: they share no cell.
    """
    shared = [cell for cell in old.cells if cell in new.cells]
    if not shared:
        raise ResultsError(f"{old.name} and {new.name} have no cell in common")
    known = max(old.known, new.known, key=lambda side: side.variance)
    measured = [estimates.log_ratio(new.cells[c], old.cells[c], known) for c in shared]
    null = estimates.empirical_null(measured)
    shift = math.log(null.shift.estimate) if relative else 0.0
    judged = [replace(m, centre=m.centre - shift, error=m.error * null.inflation) for m in measured]
    certain = false_discovery_control([one.p_within(threshold) for one in judged]) <= RATE
    unchanged = estimates.probability_within(judged, threshold) >= 1 - RATE
    found = [
        Comparison(cell, one.interval(), _change(one, bool(beyond), bool(within)))
        for cell, one, beyond, within in zip(shared, judged, certain, unchanged, strict=True)
    ]
    found.sort(key=lambda comparison: -comparison.ratio.estimate)
    return Compared(tuple(found), null.shift)


def _change(ratio: LogRatio, beyond: bool, within: bool) -> Change:
    if beyond:
        return "slower" if ratio.centre > 0 else "faster"
    return "same" if within else "ambiguous"


def read(path: Path) -> Measured:
    """The timings of a results folder, or of a file that pytest-benchmark wrote.

    Raises:
        ResultsError: it is neither.
    """
    if path.is_file():
        return _pytest_benchmark(path)
    run = load(path)
    known = scatter(run)
    cells = {c.label: c.samples for c in join(run, known) if c.samples and c.replica == 0}
    machine = run.facts.get("machine")
    return Measured(run.name, cells, known, machine if isinstance(machine, dict) else {})


def _pytest_benchmark(path: Path) -> Measured:
    """pytest-benchmark measures everything once: blocks of rounds stand for passes.

    Neighbouring rounds err alike, the means of long blocks hardly (the method of batch means). What
    differs between two runs of a benchmark they cannot tell; `empirical_null` sees that.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        cells = {
            str(entry["fullname"]): _blocks(np.asarray(entry["stats"]["data"], dtype=float))
            for entry in content["benchmarks"]
        }
        known = estimates.scatter(cells.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} is no output of pytest-benchmark with its data ({error!r}): write it with "
            "--benchmark-json or --benchmark-save-data"
        ) from None
    return Measured(path.name, cells, known, {})


def _blocks(rounds: NDArray[np.float64]) -> Passes:
    return np.array_split(rounds, max(1, min(BLOCKS, rounds.size // 2)))


def differences(old: Measured, new: Measured) -> list[str]:
    """What tells the two machines apart, one phrase each; nothing where it is one machine."""
    return [
        f"{fact}: {old.machine.get(fact, '?')} against {new.machine.get(fact, '?')}"
        for fact in MACHINE
        if old.machine.get(fact) != new.machine.get(fact)
    ]


def show(
    old: Measured, new: Measured, found: Compared, rows: int, relative: bool, console: Console
) -> None:
    """The counts, what the cells have in common, and those that changed most."""
    for difference in differences(old, new):
        terminal.say(console, f"different machines: {difference}", style="bold yellow")
    changed = [c for c in found.cells if c.change in ("slower", "faster")]
    lines = [(c.cell, str(units.show(c.ratio)), c.change) for c in changed[:rows]]
    if changed:
        terminal.show(console, COLUMNS, lines, f"{new.name} over {old.name}", most=console.width)
    if len(changed) > rows:
        terminal.say(console, f"... and {len(changed) - rows} more that changed: --all shows them.")
    counts = found.counts
    counted = ", ".join(f"{counts[c]} {c}" for c in ("faster", "slower", "same", "ambiguous"))
    terminal.say(console, f"{len(found.cells)} cells: {counted}")
    agree = ", ".join(f"{found.agreeing(s):.0%} within {s:.0%}" for s in (0.05, 0.1, 0.2))
    terminal.say(console, f"Medians agree: {agree}.")
    terminal.say(console, common(found.shift, relative))


def common(shift: Interval, relative: bool) -> str:
    """What all cells have in common, in words."""
    times = f"All cells together take {units.show(shift)} times as long (median)"
    if relative:
        return f"{times}; each is compared beside that."
    if shift.high < 1 / (1 + STEADY) or shift.low > 1 + STEADY:
        return (
            f"{times}: that is the machine, or something that all of them use. --relative compares "
            "each cell beside it."
        )
    return f"{times}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 if a cell certainly slowed by more than the threshold, 2 on unusable input."""
    parser = Parser(prog="python -m reports.compare", description=__doc__)
    parser.add_argument(
        "old", metavar="RUN_A", help="results folder, its zip or name, or .json file"
    )
    parser.add_argument("new", metavar="RUN_B", help="the same, or 'latest'")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--all", action="store_true", help="show every cell that changed")
    parser.add_argument(
        "--threshold",
        type=number(0, 100),
        default=THRESHOLD,
        metavar="SHARE",
        help="differences up to this share, of 0 to 100, do not count (%(default)s)",
    )
    parser.add_argument(
        "--relative",
        action="store_true",
        help="take what all cells have in common for the machine's, and compare beside it",
    )
    asked = parser.parse_args(arguments)
    try:
        old, new = (read(_path(name, asked.results)) for name in (asked.old, asked.new))
        found = compare(old, new, asked.threshold, asked.relative)
    except (ResultsError, OSError) as error:
        terminal.error(error)
        return 2
    rows = len(found.cells) if asked.all else ROWS
    show(old, new, found, rows, asked.relative, terminal.console())
    return int(found.counts["slower"] > 0)


def _path(name: str, results: Path) -> Path:
    file = Path(name)
    return file if file.is_file() and file.suffix.lower() != ".zip" else locate(name, results)


if __name__ == "__main__":
    sys.exit(terminal.command(main))
