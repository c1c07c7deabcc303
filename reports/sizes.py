"""`python -m reports.sizes [RUN]`: each head at each class count, as Markdown tables.

Its time, that as a multiple of the incumbent's, the memory of a call, and its share of the roof.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reports import terminal, units
from reports.arguments import Parser, whole
from reports.findings.findings import Findings, by_head, find
from reports.findings.joined import Cell
from reports.findings.roofline import limits_of, points
from reports.results import PHASES, ResultsError, load, locate

NONE = "—"


def tables(findings: Findings, phase: str, batch: int) -> Iterator[str]:
    """Tables of heads by class counts, a title before each.

    Args:
        findings: of a run.
        phase: of the calls.
        batch: samples per call.
    """
    cells = findings.alone_at(phase, batch)
    if findings.alone is None or not cells:
        return
    usual = findings.incumbent
    beside = {cell.classes: cell for cell in cells if cell.head == usual and cell.samples}

    def time(cell: Cell) -> str:
        return str(units.seconds_interval(cell.seconds)) if cell.seconds else NONE

    def ratio(cell: Cell) -> str:
        if not cell.samples or cell.classes not in beside:
            return NONE
        if cell.head == usual:
            return "1"
        return str(units.times_interval(findings.ratio(cell, beside[cell.classes])))

    def memory(cell: Cell) -> str:
        return units.num_bytes(cell.memory.peak) if cell.memory else NONE

    where = f"{phase}, d = {findings.alone.features:,}, {findings.alone.dtype}, batch {batch:,}"
    yield _table(f"{findings.clock} time of {where}", cells, time)
    yield _table(f"as a multiple of that of {usual}", cells, ratio)
    yield _table("peak memory above parameters and optimizer state", cells, memory)
    if limits := limits_of(findings):
        shares = {(one.head, one.classes): one.share for one in points(cells, limits)}

        def share(cell: Cell) -> str:
            found = shares.get((cell.head, cell.classes))
            return str(units.share_interval(found)) if found else NONE

        title = "share of the roof that binds; a peer's by the counted work of the head it computes"
        yield _table(title, cells, share)


def _table(title: str, cells: Sequence[Cell], show: Callable[[Cell], str]) -> str:
    """A line for each head that has something to show."""
    classes = sorted({cell.classes for cell in cells})
    lines = [_line("head", *(f"{n:,}" for n in classes)), _line(*["---"] * (1 + len(classes)))]
    for head, of_head in by_head(cells).items():
        shown = {cell.classes: show(cell) for cell in of_head}
        if {*shown.values()} != {NONE}:
            lines.append(_line(head, *(shown.get(n, NONE) for n in classes)))
    return "\n".join([f"{title}:", "", *lines])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit status is 2 where there are none."""
    parser = Parser(prog="python -m reports.sizes", description=__doc__)
    parser.add_argument("run", nargs="?", default="latest", help="results folder or run name")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument("--phase", choices=PHASES, default="train", help="default: %(default)s")
    parser.add_argument(
        "--batch", type=whole(1, 2**24), metavar="N", help="default: the run's usual one"
    )
    asked = parser.parse_args(arguments)
    try:
        findings = find(load(locate(asked.run, asked.results)))
        found = list(tables(findings, asked.phase, asked.batch or findings.batch))
        if not found:
            raise ResultsError(f"{findings.run.name} has no such cell")
    except (ResultsError, OSError) as error:
        terminal.error(error)
        return 2
    for part in found:
        terminal.say(terminal.console(), f"{part}\n", copied=True)
    return 0


if __name__ == "__main__":
    sys.exit(terminal.command(main))
