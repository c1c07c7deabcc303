"""`python -m reports.advise --classes N --batch N`: which head to take, from a run's results."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from reports import terminal, units
from reports.arguments import MOST_CLASSES, Parser, shown, whole
from reports.findings import workloads
from reports.findings.adviser import PHASES, Adviser, Question, Row, advise, adviser, recommend
from reports.findings.findings import Findings, find
from reports.findings.joined import Setting
from reports.results import ResultsError, load, locate
from reports.stats.estimates import Interval
from reports.terminal import Column

SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SIZES |= {f"{prefix}i": 2 ** (10 * power) for power, prefix in enumerate("kmgt", start=1)}

MOST_BYTES = 2**60

COLUMNS = {
    "head": Column(readable=20),
    "time": Column(number=True, given_up=1),
    "memory": Column(number=True, given_up=3),
    "fits": Column(given_up=2),
    "extrapolated": Column(given_up=4),
}

CHECKED = {
    "quantity": Column(),
    "phase": Column(given_up=2),
    "sizes": Column(given_up=1),
    "cells": Column(number=True, given_up=5),
    "median": Column(number=True, given_up=3),
    "largest": Column(number=True, given_up=6),
    "in interval": Column(number=True, given_up=4),
    "width": Column(number=True, given_up=7),
}


@dataclass(frozen=True)
class Checked:
    """One cell that was predicted from one run and measured in another."""

    head: str
    phase: str
    quantity: str
    extrapolated: bool
    predicted: Interval
    measured: float

    @property
    def error(self) -> float:
        """Relative to what was measured, as a share."""
        return abs(self.predicted.estimate / self.measured - 1)


def check(old: Findings, new: Findings) -> list[Checked]:
    """Predict from one run every cell of another that it does not contain.

    Raises:
        ResultsError: the runs were measured on different devices or leave nothing to predict.
    """
    here, there = old.alone, new.alone
    if here is None or there is None:
        raise ResultsError("one of the runs measured no head alone: nothing can be checked")
    if _hardware(here) != _hardware(there):
        raise ResultsError(
            f"{old.run.name} ({_told(here)}) cannot predict {new.run.name} ({_told(there)})"
        )
    known = adviser(old)
    place = ("head", "phase", "classes", "batch", "features")
    seen = {
        tuple(getattr(cell, p) for p in place)
        for cell in old.cells
        if here.holds_at_any_width(cell)
    }
    found = []
    for cell in new.cells:
        costs = known.phases.get(cell.phase, {}).get(cell.head)
        fresh = tuple(getattr(cell, p) for p in place) not in seen
        size = (cell.classes, cell.batch, cell.features)
        if not there.holds_at_any_width(cell) or not fresh or costs is None:
            continue
        if costs.time.refuses(*size):
            continue
        beyond = bool(costs.time.extrapolates(*size))
        told = (cell.head, cell.phase)
        if cell.seconds:
            predicted = costs.time.at(*size)
            found.append(Checked(*told, "time", beyond, predicted, cell.seconds.estimate))
        if cell.memory and cell.memory.total and costs.memory:
            predicted = costs.memory.at(*size)
            found.append(Checked(*told, "memory", beyond, predicted, cell.memory.total))
    if not found:
        raise ResultsError(f"{new.run.name} holds no cell that {old.run.name} could predict")
    return found


def _hardware(setting: Setting) -> tuple[str, str, str, int, int | None]:
    """What a law holds for; a GPU does not care how many threads the CPU has."""
    threads = setting.threads if setting.device == "cpu" else None
    return setting.device, setting.dtype, setting.mode, setting.ranks, threads


def _told(setting: Setting) -> str:
    mode = "" if setting.mode == "eager" else f", {workloads.MODES[setting.mode]}"
    ranks = "" if setting.ranks == 1 else f", {setting.ranks} ranks"
    return f"{setting.device}, {setting.dtype}, {setting.threads} threads{mode}{ranks}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the advice, or how right it was; the exit status is 2 on unusable input."""
    asked = _parser().parse_args(arguments)
    console = terminal.console()
    try:
        if asked.check:
            old, new = (find(load(locate(run, asked.results))) for run in asked.check)
            _show_check(check(old, new), console)
            return 0
        if asked.classes is None:
            raise ResultsError("--classes is missing: expected the number of classes")
        findings = find(load(locate(asked.run, asked.results)))
        if findings.alone is None:
            raise ResultsError(
                f"{findings.run.name} measured no head alone: nothing to predict from"
            )
        question = Question(
            classes=asked.classes,
            batch=asked.batch or findings.batch,
            features=asked.features or findings.alone.features,
            phase=asked.phase,
            memory=asked.memory,
        )
        _show(findings, adviser(findings), question, console)
    except (ResultsError, OSError) as error:
        terminal.error(error)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    size = whole(1, MOST_CLASSES)
    parser = Parser(prog="python -m reports.advise", description=__doc__)
    parser.add_argument("--classes", type=size, metavar="N", help="number of classes")
    parser.add_argument("--batch", type=size, metavar="N", help="default: the run's usual one")
    parser.add_argument("--features", type=size, metavar="N", help="default: the run's")
    parser.add_argument("--memory", type=_bytes, metavar="BYTES", help="limit, such as 2GiB")
    parser.add_argument("--phase", choices=PHASES, default="train", help="default: %(default)s")
    parser.add_argument("--run", default="latest", help="results folder or run name")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument(
        "--check",
        nargs=2,
        metavar=("RUN_A", "RUN_B"),
        help="predict from the first run what only the second one measured",
    )
    return parser


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower(), re.ASCII)
    size = float(found[1]) * SIZES[found[2]] if found and found[2] in SIZES else 0.0
    if not 1 <= size <= MOST_BYTES:
        raise argparse.ArgumentTypeError(
            f"expected bytes such as 500MB or 2GiB, from 1 to 2^60, got {shown(text)}"
        )
    return round(size)


def _show(findings: Findings, known: Adviser, asked: Question, console: Console) -> None:
    rows = advise(known, asked)
    if rows:
        _table(rows, asked, console)
    for said in recommend(known, asked, rows):
        terminal.say(console, said)
    for head, why in known.left_out.items():
        terminal.say(console, f"Left out: {head} ({why}).")
    terminal.say(console, f"Predicted for {workloads.holds(findings)}.")
    terminal.say(console, f"Predicted from {findings.run.name}", copied=True)


def _table(rows: Sequence[Row], asked: Question, console: Console) -> None:
    limit = "" if asked.memory is None else f", {units.num_bytes(asked.memory)}"
    title = f"{asked.phase}: {asked.classes:,} classes, batch {asked.batch:,}, "
    told = [
        {
            "head": row.head,
            "time": "\n".join(row.seconds_shown),
            "memory": "\n".join(row.memory_shown),
            "fits": row.fits,
            "extrapolated": ", ".join(row.extrapolated),
        }
        for row in rows
    ]
    columns = {n: c for n, c in COLUMNS.items() if n != "fits" or asked.memory is not None}
    cells = [[row[name] for name in columns] for row in told]
    terminal.show(console, columns, cells, f"{title}{asked.features:,} features{limit}")


def _show_check(found: Sequence[Checked], console: Console) -> None:
    rows = []
    groups: dict[tuple[str, str, str], list[Checked]] = {}
    for one in found:
        sizes = "extrapolated" if one.extrapolated else "in range"
        groups.setdefault((one.quantity, one.phase, sizes), []).append(one)
    for names, many in sorted(groups.items()):
        errors = [one.error for one in many]
        inside = sum(one.measured in one.predicted for one in many)
        wide = [math.log(one.predicted.high / one.predicted.estimate) for one in many]
        rows.append(
            (
                *names,
                str(len(many)),
                units.share(float(np.median(errors))),
                units.share(max(errors)),
                f"{inside} of {len(many)}",
                f"{units.digits(math.exp(float(np.median(wide))))}x",
            )
        )
    terminal.show(console, CHECKED, rows, "relative error of predictions")


if __name__ == "__main__":
    sys.exit(terminal.command(main))
