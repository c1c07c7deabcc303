"""How often `versus` finds what is there, and how often what is not; of the method, a benchmark.

    python -m bench.versus.power [REV] [--runs N] [--slow HEAD] [--by SHARE] [--jobs N]

A revision plays against itself, and against itself with one head slowed down in training and
prediction, in turns. The pairs of processes without a slowdown are then drawn again and again, with
slowdowns of several sizes added to them: that says how the power depends on the size.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from bench import interrupts
from bench.versus import plant
from bench.versus.__main__ import add_options, cells, stage, unpacked
from bench.versus.duet import Cell, perform
from bench.versus.process import PlayerError, Revision
from bench.versus.revisions import RevisionError
from bench.versus.verdict import Logs, Verdict, midmeans, verdicts
from reports import terminal
from reports.arguments import Parser, number, whole

SLOWDOWNS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)

DRAWS = 1_000


class Run(NamedTuple):
    """One run of the method.

    Attributes:
        planted: whether a head was slowed down.
        pairs: cell -> what each pair of processes saw, the logarithm of new over old.
        changes: (head, change) of all that was claimed.
    """

    planted: bool
    pairs: Mapping[Cell, Logs]
    changes: list[tuple[str, str]]


def sow(folder: Path, head: str, share: float) -> None:
    """Slow down `head` in the revision whose files are in `folder`."""
    shutil.copy(plant.__file__, folder / "heads" / "_plant.py")
    with (folder / "heads" / "__init__.py").open("a") as registry:
        registry.write(
            f"\nfrom heads._plant import slowed\n\nbuild = slowed(build, {head!r}, {share!r})\n"
        )


def claimed(found: Sequence[Verdict]) -> list[tuple[str, str]]:
    """All that is said to have changed."""
    return [(one.head, one.change) for one in found if one.change in ("slower", "faster")]


def play(asked: argparse.Namespace, sides: Sequence[Revision], number: int) -> Run:
    """Run `number`: even ones play without a slowdown, odd ones with it."""
    same, copy, slow = sides
    planted = bool(number % 2)
    placed = stage(asked)
    # Runs at once keep to cores of their own.
    placed = replace(placed, cores=placed.cores[number // 2 % asked.jobs :: asked.jobs])
    played = perform(
        same, slow if planted else copy, cells(asked), 60 * asked.minutes, placed, number
    )
    pairs = midmeans(played.blocks)
    changes = claimed(verdicts(pairs, asked.threshold))
    said = ", ".join(f"{head} {change}" for head, change in changes) or "nothing"
    kind = f"{asked.slow} slower by {asked.by:.1%}" if planted else "no change"
    print(f"run {number + 1}, {kind}: {min(map(len, pairs.values()))} pairs, {said}", flush=True)
    return Run(planted, pairs, changes)


def redrawn(
    runs: Sequence[Run],
    head: str,
    slowdown: float,
    threshold: float,
    random: np.random.Generator,
    draws: int = DRAWS,
) -> tuple[int, int]:
    """Of `draws` runs made of pairs that had no slowdown: how many found it, and claimed else.

    Which side of a pair was which is a matter of chance, so signs are drawn as well. The cells of a
    pair stay together, as their processes are the same.
    """
    kept = list(runs[0].pairs)
    pool = np.concatenate([[run.pairs[cell] for cell in kept] for run in runs], axis=1)
    count = round(np.mean([len(run.pairs[kept[0]]) for run in runs]))
    shift = np.array([math.log1p(slowdown) * (cell.head == head) for cell in kept])
    found = other = 0
    for _ in range(draws):
        drawn = pool[:, random.integers(pool.shape[1], size=count)]
        drawn = drawn * random.choice([-1, 1], size=count) + shift[:, None]
        changes = claimed(verdicts(dict(zip(kept, drawn, strict=True)), threshold))
        found += (head, "slower") in changes
        other += any(change != (head, "slower") for change in changes)
    return found, other


def report(runs: Sequence[Run], head: str, by: float, threshold: float, draws: int = DRAWS) -> str:
    """Both tables, in Markdown."""
    lines = [
        "| runs | the slow head is found | anything else is claimed |",
        "| --- | --- | --- |",
    ]
    for planted in (False, True):
        own = [run.changes for run in runs if run.planted is planted]
        hits = sum((head, "slower") in changes for changes in own)
        other = sum(any(one != (head, "slower") for one in changes) for changes in own)
        kind = f"{head} slower by {by:.1%}" if planted else "no change"
        if not planted:
            other = sum(map(bool, own))
        found = share(hits, len(own)) if planted else "-"
        lines.append(f"| {len(own)}, {kind} | {found} | {share(other, len(own))} |")
    lines += ["", "| slowdown, pairs drawn again | found | anything else |", "| --- | --- | --- |"]
    random = np.random.default_rng(0)
    without = [run for run in runs if not run.planted]
    for slowdown in SLOWDOWNS:
        hits, other = redrawn(without, head, slowdown, threshold, random, draws)
        lines.append(f"| {slowdown:.0%} | {hits / draws:.1%} | {other / draws:.1%} |")
    return "\n".join(lines)


def share(hits: int, runs: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    if not runs:
        return "-"
    found = binomtest(hits, runs).proportion_ci(method="wilson")
    return f"{hits / runs:.0%} [{found.low:.0%}, {found.high:.0%}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play and print the tables; the exit status."""
    parser = Parser(prog="python -m bench.versus.power", description=__doc__)
    add = parser.add_argument
    add("revision", metavar="REV", nargs="?", help="what plays against itself (the working tree)")
    add("--runs", type=whole(1, 10_000), default=10, help="of either kind (%(default)s)")
    add("--jobs", type=whole(1, 256), default=1, help="runs at once, on cores of their own (1)")
    add("--slow", metavar="HEAD", default="hierarchical", help="head to slow (%(default)s)")
    add("--by", type=number(0, 10), default=0.05, metavar="SHARE", help="(%(default)s)")
    add_options(parser)
    asked = parser.parse_args(arguments)
    try:
        with interrupts.like_ctrl_c(), unpacked(*[asked.revision] * 3) as sides:
            sow(sides[2].folder, asked.slow, asked.by)
            with ThreadPoolExecutor(asked.jobs) as pool:
                runs = list(pool.map(partial(play, asked, sides), range(2 * asked.runs)))
    except (RevisionError, PlayerError, OSError) as error:
        terminal.error(error)
        return 2
    print(f"\n{report(runs, asked.slow, asked.by, asked.threshold)}")
    return 0


if __name__ == "__main__":
    sys.exit(terminal.command(main))
