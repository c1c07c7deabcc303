"""`python -m bench.versus REV [REV2]`: which heads are slower in REV2 than in REV?

Exit status 1 if one certainly is, by more than the threshold; 2 if something could not be done.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bench import interrupts, options
from bench.cells import STANDARD
from bench.versus.duet import LEAST_PAIRS, Cell, Played, Stage, perform
from bench.versus.process import PlayerError, Revision
from bench.versus.revisions import RevisionError, unpack
from bench.versus.verdict import Verdict, midmeans, verdicts
from reports import terminal, units
from reports.arguments import MOST_SEED, Parser, number, several, shown, whole
from reports.results import PHASES
from reports.terminal import Column

THRESHOLD = 0.01
"""Where things lie in memory moves a head by less, on average over some two dozen pairs."""

COLUMNS = {
    "head": Column(readable=10),
    "phase": Column(),
    "classes": Column(number=True, given_up=3),
    "batch": Column(number=True, given_up=4),
    "time ratio": Column(number=True, given_up=1),
    "change": Column(given_up=2),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is played and how, the same for a run and for the benchmark of the method."""
    add = parser.add_argument
    for flag, read, default, text in (
        ("--heads", several(_name), STANDARD, "heads to play"),
        ("--phases", several(_phase), ("train", "predict"), f"of {', '.join(PHASES)}"),
        ("--classes", several(whole(2, options.MOST_CLASSES)), (128, 1_024, 8_192), "class counts"),
        ("--batches", several(whole(1, 2**24)), (128,), "batch sizes"),
    ):
        values = ",".join(map(str, default))
        add(flag, type=read, default=default, metavar="X,...", help=f"{text} ({values})")
    add("--features", type=whole(1, 2**20), default=128, metavar="N", help="width (%(default)s)")
    add("--minutes", type=number(0.01, 1_440), default=2.0, help="to play (%(default)s)")
    add(
        "--threshold",
        type=number(0, 100),
        default=THRESHOLD,
        metavar="SHARE",
        help="differences up to this share, of 0 to 100, do not count (%(default)s)",
    )
    add(
        "--threads",
        type=whole(1, options.THREADS),
        default=1,
        metavar="N",
        help="CPU threads (%(default)s; more of them wait for each other, and for the other side)",
    )
    add("--device", type=options.device, default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    add("--seed", type=whole(0, MOST_SEED), default=0, help="of orders and weights (%(default)s)")


def _name(given: str) -> str:
    if not given:
        raise argparse.ArgumentTypeError("expected names parted by commas, got an empty one")
    return given


def _phase(given: str) -> str:
    if given not in PHASES:
        raise argparse.ArgumentTypeError(f"no phase {shown(given)}; there are: {', '.join(PHASES)}")
    return given


def cells(asked: argparse.Namespace) -> list[Cell]:
    """The grid that the options ask for."""
    points = product(asked.heads, asked.phases, asked.classes, asked.batches)
    return [Cell(*point, asked.features, asked.device) for point in points]


def stage(asked: argparse.Namespace) -> Stage:
    """One thread a player: both on one core, which two cores may not be alike, and all in turn."""
    alone = asked.threads == 1 and hasattr(os, "sched_getaffinity")
    return Stage(asked.threads, sorted(os.sched_getaffinity(0)) if alone else ())


@contextmanager
def unpacked(*revisions: str | None) -> Iterator[list[Revision]]:
    """The revisions in folders of their own, which are gone afterwards.

    Raises:
        RevisionError: one cannot be had.
    """
    with TemporaryDirectory(prefix="versus-") as temporary:
        # Names of one length: where things lie on a stack depends on it.
        folders = [Path(temporary).resolve() / str(side) for side, _ in enumerate(revisions)]
        pairs = zip(revisions, folders, strict=True)
        yield [Revision(unpack(revision, folder), folder) for revision, folder in pairs]


def rows(found: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """A row for each verdict; for what changed, its sizes below it."""
    lines: list[tuple[str, ...]] = []
    for one in found:
        ratio = str(units.show(one.ratio))
        lines.append((one.head, one.phase, "all", "all", ratio, one.change))
        if one.change in ("slower", "faster"):
            for cell, own in one.cells.items():
                lines.append(
                    ("", "", f"{cell.classes:,}", str(cell.batch), str(units.show(own)), "")
                )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Play as the command line says; the exit status."""
    parser = Parser(prog="python -m bench.versus", description=__doc__)
    parser.add_argument("old", metavar="REV", help="what git knows: a commit, a branch, a tag")
    parser.add_argument("new", metavar="REV2", nargs="?", help="the same (the working tree)")
    add_options(parser)
    asked = parser.parse_args(arguments)
    console = terminal.console()
    try:
        with interrupts.like_ctrl_c(), unpacked(asked.old, asked.new) as (old, new):
            terminal.say(console, f"{new.name} against {old.name}, {asked.minutes:g} minutes")
            # A livelier spinner would take processor time from the players.
            with console.status("starting", refresh_per_second=1) as status:
                played = perform(
                    *(old, new, cells(asked), 60 * asked.minutes, stage(asked), asked.seed),
                    tell=lambda pair, pairs: status.update(f"pair {pair} of {pairs}"),
                )
    except (RevisionError, PlayerError, OSError) as error:
        terminal.error(error)
        return 2
    for reason in played.skipped:
        terminal.say(console, f"left out: {reason}", style="yellow")
    if not played.blocks:
        terminal.error("nothing is left to play: name --heads that both revisions have")
        return 2
    found = verdicts(midmeans(played.blocks), asked.threshold)
    show(found, played, f"{new.name} over {old.name}", console)
    return int(any(one.change == "slower" for one in found))


def show(found: Sequence[Verdict], played: Played, title: str, console: Console) -> None:
    """Print the table, and how much it rests on."""
    pairs = min(map(len, played.blocks.values()))
    caption = (
        f"{pairs} {'pair' if pairs == 1 else 'pairs'} of processes. "
        "All ratios over all sizes hold together at 95 %."
    )
    terminal.show(console, COLUMNS, rows(found), title, caption, most=console.width)
    if pairs < LEAST_PAIRS:
        terminal.say(console, "Few pairs tell little: give more --minutes, or play fewer cells.")


if __name__ == "__main__":
    sys.exit(terminal.command(main))
