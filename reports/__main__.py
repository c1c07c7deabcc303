"""`python -m reports [RUN ...]`: a page per run (default: the newest), several side by side."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from matplotlib.figure import Figure

from reports import summary, terminal
from reports.arguments import Parser
from reports.export import ENDINGS, FORMS, Form, exported
from reports.findings.clocks import CLOCKS, Clock
from reports.findings.findings import Findings, find
from reports.findings.side_by_side import LETTERS
from reports.page import html
from reports.page.figures import drawing
from reports.page.sections.cells import beside
from reports.page.stills import beside as still_beside
from reports.page.stills import stills
from reports.results import ResultsError, load, locate
from reports.results.files import write_whole
from reports.results.folder import AT, split_machine


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, print the summaries, and return the exit status.

    A run that cannot be reported keeps none of the others from it; the status is 2 then.
    """
    asked = _parser().parse_args(arguments)
    status = 0
    folders: list[Path] = []
    for run in asked.runs or ["latest"]:
        try:
            folders.append(locate(run, asked.results))
        except (ResultsError, OSError) as error:
            terminal.error(error)
            status = 2
    try:
        _check_distinct(folders)
    except ResultsError as error:
        terminal.error(error)
        return 2
    runs = []
    for folder in folders:
        try:
            if asked.export:
                _export(folder, asked.output, asked.export, asked.clock)
                continue
            first = _report(folder, asked.output, asked.figure, asked.clock)
            runs.append(first)
            # Of a cluster's run every machine has a page of its own.
            others = () if split_machine(folder)[1] else first.run.machines[1:]
            for machine in others:
                part = folder.with_name(f"{folder.name}{AT}{machine}")
                _report(part, asked.output, asked.figure, asked.clock)
        except (ResultsError, OSError) as error:
            terminal.error(error)
            status = 2
    if len(runs) > 1:
        try:
            page = _side_by_side(runs, asked.output, asked.figure)
            terminal.say(terminal.console(), f"side by side: {page}", copied=True)
        except (ResultsError, OSError) as error:
            terminal.error(error)
            status = 2
    return status


def _report(folder: Path, output: Path, figure: bool, clock: Clock | None) -> Findings:
    """The page of one run, its figures if asked for, and its summary."""
    try:
        findings = find(load(folder), clock)
    except ValueError as error:
        raise ResultsError(str(error)) from None
    page = output / f"{findings.run.name}.html"
    _write(page, terminal.utf8(html.render(findings)))
    if findings.summarised:
        _copy(findings.run.folder / "journal.jsonl", page.with_name(beside(page.stem)))
    if figure:
        for name, still in stills(findings).items():
            _draw(still, page.with_stem(f"{page.stem}{name}"))
    summary.show(findings, page)
    return findings


def _export(folder: Path, output: Path, form: Form, clock: Clock | None) -> None:
    """One run as a file for other tools."""
    run = load(folder)
    path = output / f"{run.name}{ENDINGS[form]}"
    _write(path, exported(run, form, clock))
    terminal.say(terminal.console(), f"exported: {path}", copied=True)


def _draw(still: Figure, path: Path) -> None:
    try:
        drawing.save(still, path)
    except OSError as error:
        raise _unwritten(path, error) from None


def _side_by_side(runs: Sequence[Findings], output: Path, figure: bool) -> Path:
    """The page of several runs, and the figure of their training steps if asked for."""
    title = _title([findings.run.name for findings in runs])
    own = [f"{quote(os.fsencode(findings.run.name))}.html" for findings in runs]
    page = output / f"{title}.html"
    _write(page, terminal.utf8(html.render_side_by_side(runs, own, title)))
    if figure and (still := still_beside(runs)):
        _draw(still, page)
    return page


def _parser() -> ArgumentParser:
    parser = Parser(prog="python -m reports", description=__doc__)
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a results folder, its zip, or its name under --results; default: latest",
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("reports/html"),
        help="folder for what is written; default: reports/html/",
    )
    also = parser.add_mutually_exclusive_group()
    also.add_argument(
        "--figure", action="store_true", help="write the main figures as .svg and .png too"
    )
    also.add_argument(
        "--export",
        choices=FORMS,
        help="in place of the page: every cell with its interval, for other tools",
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        help="of a run on a GPU: read times from this clock; default: the device's",
    )
    return parser


def _check_distinct(folders: Sequence[Path]) -> None:
    """Raises a `ResultsError` unless each can have a page of its own beside the others."""
    if len(folders) > len(LETTERS):
        raise ResultsError(
            f"{len(folders)} runs do not fit side by side: name {len(LETTERS)} or fewer"
        )
    names = [folder.resolve().name for folder in folders]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ResultsError(
            f"two of the runs are called {twice!r}, and so would be their pages: name each run "
            "once, or rename a folder"
        )


def _title(names: Sequence[str]) -> str:
    first, *others = names
    return f"{first}-and-{others[0] if len(others) == 1 else f'{len(others)}-others'}"


def _copy(journal: Path, target: Path) -> None:
    """Put a large run's journal, gzipped, beside its page."""
    try:
        with journal.open("rb") as given:
            # Level 1: half a second per 10 MB at higher ones, for a few per cent.
            write_whole(target, lambda file: _gzip(given, file))
    except OSError as error:
        raise _unwritten(target, error) from None


def _gzip(given: BinaryIO, file: BinaryIO) -> None:
    with gzip.GzipFile("", "wb", 1, file, mtime=0) as packed:
        shutil.copyfileobj(given, packed)


def _write(page: Path, content: bytes) -> None:
    try:
        write_whole(page, lambda file: file.write(content))
    except OSError as error:
        raise _unwritten(page, error) from None


def _unwritten(page: Path, error: OSError) -> ResultsError:
    return ResultsError(
        f"cannot write {page} ({error.strerror}): choose another folder with --output"
    )


if __name__ == "__main__":
    sys.exit(terminal.command(main))
