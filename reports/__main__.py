"""`python -m reports [RUN ...]`: a page per run (default: the newest), several side by side."""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from reports import summary
from reports.findings.findings import find
from reports.findings.side_by_side import LETTERS
from reports.page import html
from reports.page.figures import drawing
from reports.page.sections.cells import beside
from reports.page.stills import stills
from reports.results import ResultsError, load, locate
from reports.results.files import write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, print the summaries, and return the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        folders = _distinct([locate(run, asked.results) for run in asked.runs or ["latest"]])
        runs = []
        for folder in folders:
            findings = find(load(folder))
            page = asked.output / f"{findings.run.name}.html"
            _write(page, html.render(findings))
            if findings.summarised:
                _copy(findings.run.folder / "journal.jsonl", page.with_name(beside(page.stem)))
            if asked.figure:
                for name, figure in stills(findings).items():
                    drawing.save(figure, page.with_stem(f"{page.stem}{name}"))
            summary.show(findings, page)
            runs.append(findings)
        if len(runs) > 1:
            title = _title([findings.run.name for findings in runs])
            own = [f"{quote(findings.run.name)}.html" for findings in runs]
            page = asked.output / f"{title}.html"
            _write(page, html.render_side_by_side(runs, own, title))
            print(f"side by side: {page}")
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a results folder, or its name under --results; default: latest",
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("reports/html"),
        help="folder for the pages; default: reports/html/",
    )
    parser.add_argument(
        "--figure", action="store_true", help="write the main figures as .svg and .png too"
    )
    return parser


def _distinct(folders: Sequence[Path]) -> Sequence[Path]:
    """The folders, if each can have a page of its own beside the others."""
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
    return folders


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
        raise ResultsError(
            f"cannot write {target} ({error.strerror}): choose another folder with --output"
        ) from None


def _gzip(given: BinaryIO, file: BinaryIO) -> None:
    with gzip.GzipFile("", "wb", 1, file, mtime=0) as packed:
        shutil.copyfileobj(given, packed)


def _write(page: Path, text: str) -> None:
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ResultsError(
            f"cannot write {page} ({error.strerror}): choose another folder with --output"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
