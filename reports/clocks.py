"""`python -m reports.clocks [RUN]`: device, host and loop time of each head, in every precision.

Of a run on a GPU: as a Markdown table, for a note or an issue.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from reports import terminal, units
from reports.arguments import MOST_CLASSES, Parser, several, whole
from reports.findings.clocks import TwoClocks, noise, sentences, two_clocks
from reports.findings.findings import Findings, find
from reports.findings.joined import Setting
from reports.findings.workloads import AXES
from reports.results import PHASES, ResultsError, load, locate

COLUMNS = ("head", "classes", "device", "host", "loop", "launches", "binds")

SAID = ("dtype", "mode")
"""Of a table's setting; the rest is as usual."""


def tables(
    findings: Findings, phase: str, batch: int, classes: Sequence[int] | None = None
) -> Iterator[str]:
    """A table for each precision and mode, its title before it.

    Args:
        findings: of a run on a GPU.
        phase: of the calls.
        batch: samples per call.
        classes: to show; None for all.
    """
    for setting in _settings(findings):
        rows = [
            one
            for one in two_clocks(findings.as_read, setting, findings.scatter)
            if (one.phase, one.batch) == (phase, batch)
            and (classes is None or one.classes in classes)
        ]
        if rows:
            yield f"{', '.join(AXES[field](setting) for field in SAID)}, {phase}, batch {batch}:"
            yield "\n".join([_line(COLUMNS), _line("---" for _ in COLUMNS), *map(_row, rows)])
            yield "\n".join(f"- {said}" for said in sentences(rows, phase, batch))


def _settings(findings: Findings) -> list[Setting]:
    """The usual setting in each precision and mode that was measured."""
    usual = findings.alone
    if usual is None:
        return []
    found = [
        one
        for one in findings.settings
        if replace(one, dtype=usual.dtype, mode=usual.mode, state=usual.state) == usual
    ]
    return list({(one.dtype, one.mode): one for one in reversed(found)}.values())[::-1]


def _row(one: TwoClocks) -> str:
    loop = units.seconds(one.loop.estimate) if one.loop else "—"
    device = units.seconds(one.device.estimate) + (" (kernels)" if one.why_not else "")
    host = units.seconds(one.host.estimate)
    return _line((one.head, f"{one.classes:,}", device, host, loop, str(one.launches), one.binds))


def _line(cells: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; the exit status is 2 where there are none."""
    parser = Parser(prog="python -m reports.clocks", description=__doc__)
    parser.add_argument("run", nargs="?", default="latest", help="results folder or run name")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument("--phase", choices=PHASES, default="train", help="default: %(default)s")
    size = whole(1, MOST_CLASSES)
    parser.add_argument("--batch", type=size, metavar="N", help="default: the run's usual one")
    parser.add_argument("--classes", type=several(size), metavar="N,...", help="default: all")
    asked = parser.parse_args(arguments)
    try:
        findings = find(load(locate(asked.run, asked.results)))
        found = list(tables(findings, asked.phase, asked.batch or findings.batch, asked.classes))
        if not found:
            raise ResultsError(
                f"{findings.run.name} has no such cell with two clocks: they are a GPU's"
            )
    except (ResultsError, OSError) as error:
        terminal.error(error)
        return 2
    console = terminal.console()
    for part in [*found, noise(findings.floor_by_clock)]:
        terminal.say(console, f"{part}\n", copied=True)
    return 0


if __name__ == "__main__":
    sys.exit(terminal.command(main))
