"""How often `versus` finds what is there, and how often what is not; of the method, a benchmark.

    python -m bench.versus.power [REV] [--runs N] [--jobs N] [--slow HEAD] [--by SHARE]
    python -m bench.versus.power --noise SHARE,...

A revision plays against itself, and against itself with one head slowed down in training and
prediction, in turns. The pairs of processes without a slowdown are then drawn again and again, with
slowdowns of several sizes added to them: that says how the power depends on the size. With --noise
nothing is played, and pairs that scatter by so much are imagined.
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
from queue import Queue
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from bench import interrupts
from bench.versus import plant
from bench.versus.__main__ import add_options, cells, stage, unpacked
from bench.versus.duet import LEAST_PAIRS, PAIR_SECONDS, Cell, Stage, perform
from bench.versus.process import PlayerError, Revision
from bench.versus.revisions import RevisionError
from bench.versus.verdict import Logs, Verdict, midmeans, verdicts
from reports import terminal
from reports.arguments import Parser, number, several, shown, whole
from reports.simulation import table

SLOWDOWNS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1)

DRAWS, IMAGINED = 1_000, 10_000
"""Runs that are drawn, and pairs to draw them from."""


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


def play(
    asked: argparse.Namespace, sides: Sequence[Revision], free: Queue[Stage], number: int
) -> Run:
    """Run `number`: even ones play without a slowdown, odd ones with it."""
    same, copy, slow = sides
    planted = bool(number % 2)
    placed = free.get()
    played = perform(
        same, slow if planted else copy, cells(asked), 60 * asked.minutes, placed, number
    )
    free.put(placed)
    pairs = midmeans(played.blocks)
    changes = claimed(verdicts(pairs, asked.threshold))
    said = ", ".join(f"{head} {change}" for head, change in changes) or "nothing"
    kind = f"{asked.slow} slower by {asked.by:.1%}" if planted else "no change"
    print(f"run {number + 1}, {kind}: {min(map(len, pairs.values()))} pairs, {said}", flush=True)
    return Run(planted, pairs, changes)


def imagined(grid: Sequence[Cell], noise: float, random: np.random.Generator) -> dict[Cell, Logs]:
    """Pairs of processes of which each cell sees a ratio that is off by so much.

    Half of the variance is common to a head, as its cells share the places where its code lies, and
    the tails are heavy (Student's t of 5 degrees).
    """

    def off() -> Logs:
        return noise * math.sqrt(3 / 5 / 2) * random.standard_t(5, IMAGINED)

    common = {head: off() for head in dict.fromkeys(cell.head for cell in grid)}
    return {cell: common[cell.head] + off() for cell in grid}


def redrawn(
    pool: Mapping[Cell, Logs],
    count: int,
    head: str,
    slowdown: float,
    threshold: float,
    random: np.random.Generator,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """Shares of `draws` runs that found the slowdown, and that claimed anything else.

    Args:
        pool: pairs without a slowdown, which runs are drawn from. Which side of a pair was which is
            a matter of chance, so signs are drawn as well; the cells of a pair stay together.
        count: pairs of a run.
        head: what is slowed.
        slowdown: by how much, a share.
        threshold: of the verdicts.
        random: draws.
        draws: how many runs.
    """
    seen = np.array(list(pool.values()))
    shift = np.array([math.log1p(slowdown) * (cell.head == head) for cell in pool])
    found = other = 0
    for _ in range(draws):
        drawn = seen[:, random.integers(seen.shape[1], size=count)]
        drawn = drawn * random.choice([-1, 1], size=count) + shift[:, None]
        changes = claimed(verdicts(dict(zip(pool, drawn, strict=True)), threshold))
        found += (head, "slower") in changes
        other += any(change != (head, "slower") for change in changes)
    return found / draws, other / draws


def report(runs: Sequence[Run], head: str, by: float, threshold: float, draws: int = DRAWS) -> str:
    """What the runs said, and what runs made of their pairs say, in Markdown."""
    wanted = (head, "slower")
    rows = []
    for planted in (False, True):
        own = [run.changes for run in runs if run.planted is planted]
        found = share(sum(wanted in changes for changes in own), len(own)) if planted else "-"
        other = sum(any(not planted or one != wanted for one in changes) for changes in own)
        kind = f"{head} slower by {by:.1%}" if planted else "no change"
        rows.append([f"{len(own)}, {kind}", found, share(other, len(own))])
    without = [run.pairs for run in runs if not run.planted]
    pool = {cell: np.concatenate([pairs[cell] for pairs in without]) for cell in without[0]}
    count = round(next(iter(pool.values())).size / len(without))
    off = np.median([logs.std(ddof=1) for logs in pool.values()])
    random = np.random.default_rng(0)
    again = []
    for slowdown in SLOWDOWNS:
        shares = redrawn(pool, count, head, slowdown, threshold, random, draws)
        again.append([f"{slowdown:.0%}", *(f"{one:.1%}" for one in shares)])
    return (
        table(["runs", "slow head found", "anything else claimed"], rows)
        + f"\nWithout a slowdown, a cell is off by {off:.1%} in a pair (median of the standard "
        f"deviations); {count} pairs a run.\n\n"
        + table(["slowdown, pairs drawn again", "found", "anything else"], again)
    )


def simulation(asked: argparse.Namespace, draws: int = DRAWS) -> str:
    """What runs of imagined pairs say, by how much the pairs are off, in Markdown."""
    random = np.random.default_rng(asked.seed)
    pairs = max(LEAST_PAIRS, round(60 * asked.minutes / PAIR_SECONDS))
    rows = []
    for noise in asked.noise:
        pool = imagined(cells(asked), noise, random)
        none, slow = (
            redrawn(pool, pairs, asked.slow, by, asked.threshold, random, draws)
            for by in (0.0, asked.by)
        )
        rows.append([f"{noise:.1%}", *(f"{one:.1%}" for one in (sum(none), *slow))])
    slowed = f"{asked.slow} slower by {asked.by:.1%}"
    return table(
        [f"a cell is off by, {pairs} pairs", "no change: claimed", f"{slowed}: found", "and else"],
        rows,
    )


def share(hits: int, runs: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    if not runs:
        return "-"
    found = binomtest(hits, runs).proportion_ci(method="wilson")
    return f"{hits / runs:.0%} [{found.low:.0%}, {found.high:.0%}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play and print the tables; the exit status."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = Parser(prog="python -m bench.versus.power", description=summary)
    add = parser.add_argument
    add("revision", metavar="REV", nargs="?", help="what plays against itself (the working tree)")
    add("--runs", type=whole(1, 10_000), default=10, help="of either kind (%(default)s)")
    add("--jobs", type=whole(1, 256), default=1, help="runs at once, on cores of their own (1)")
    add("--slow", metavar="HEAD", default="hierarchical", help="head to slow (%(default)s)")
    add("--by", type=number(0, 10), default=0.05, metavar="SHARE", help="(%(default)s)")
    add_options(parser)
    add("--noise", type=several(number(0, 1)), metavar="SHARE,...", help="only simulate")
    asked = parser.parse_args(arguments)
    if asked.slow not in asked.heads:
        parser.error(f"--slow: {shown(asked.slow)} is none of --heads {','.join(asked.heads)}")
    if asked.noise:
        print(simulation(asked), end="")
        return 0
    whole_stage = stage(asked)
    free: Queue[Stage] = Queue()
    for job in range(asked.jobs):
        free.put(replace(whole_stage, cores=whole_stage.cores[job :: asked.jobs]))
    try:
        with interrupts.like_ctrl_c(), unpacked(*[asked.revision] * 3) as sides:
            sow(sides[2].folder, asked.slow, asked.by)
            with ThreadPoolExecutor(asked.jobs) as pool:
                # Ctrl-C does not reach a thread.
                carry_out = map if asked.jobs == 1 else pool.map
                runs = list(carry_out(partial(play, asked, sides, free), range(2 * asked.runs)))
    except (RevisionError, PlayerError, OSError) as error:
        terminal.error(error)
        return 2
    print(f"\n{report(runs, asked.slow, asked.by, asked.threshold)}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(terminal.command(main))
