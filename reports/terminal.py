"""What reaches a terminal: printable in its encoding, and within its width.

Names and reasons come from results files that anybody may have written, and folders may be called
anything; terminals may know 128 characters and have ten columns.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

WIDTHS = 10, 500
"""A narrower terminal is taken for the one, a wider one for the other."""

MOST = 80
"""Columns of a table that should be read at a glance."""

FRAME = 3
"""Columns that a column of a table takes beside its text."""

LOOKALIKES = {
    "\u00a0": " ", "—": "-", "–": "-", "−": "-", "…": "...", "µ": "u", "μ": "u", "×": "x",  # noqa: RUF001
    "·": ".", "≤": "<=", "≥": ">=", "≈": "~", "±": "+-", "∞": "inf", "→": "->", "²": "^2",
    "‘": "'", "’": "'", "“": '"', "”": '"',  # noqa: RUF001
}  # fmt: skip
"""What our own words use, for an encoding that lacks it."""

ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of what moves, recolours or reorders text, or is half a character."""


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    """For `codecs`: something that every encoding has, in place of what this one lacks."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(LOOKALIKES.get(c) or _escape(c) for c in lacking), error.end


def _escape(character: str) -> str:
    return ascii(character)[1:-1]


codecs.register_error("lookalike", _lookalike)


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""`text` with nothing in it that `encoding` lacks or that a terminal takes for an order.

    An escape such as `\x1b` stands in the place of each such character; lines stay lines.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            c if c == "\n" or unicodedata.category(c) not in ESCAPED else _escape(c) for c in text
        )
    return text.encode(encoding, "lookalike").decode(encoding)


def utf8(text: str) -> bytes:
    """`text` as a file's content; half a character (a lone surrogate) is written as its escape."""
    return text.encode("utf-8", "lookalike")


def ready() -> None:
    """Have nothing that is printed fail for the encoding of standard output or error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lookalike")


def console(file: IO[str] | None = None) -> Console:
    """A console on `file`, or on standard output."""
    ready()
    made = Console(file=file, highlight=False)
    low, high = WIDTHS
    if not low <= made.width <= high:
        made.width = min(max(made.width, low), high)
    return made


def say(console: Console, line: str, style: str = "", copied: bool = False) -> None:
    """Print a line, broken into several where the terminal ends.

    Args:
        console: where to.
        line: from anybody.
        style: rich's.
        copied: whether it holds a path, which must not be broken.
    """
    text = Text(printable(line, console.encoding), style=style)
    console.print(text, soft_wrap=copied, width=None if copied else min(MOST, console.width))


def error(message: object) -> None:
    """Say in one line on standard error what is wrong."""
    ready()
    line = " ".join(str(message).splitlines())
    print(f"error: {printable(line, sys.stderr.encoding or 'utf-8')}", file=sys.stderr)


def command(main: Callable[[], int]) -> int:
    """The exit status of `main`, or of what kept it from printing."""
    ready()
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as problem:
        # What is left in the buffer would be tried again at the end, and raise there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(problem, BrokenPipeError):
            error(f"cannot write the output ({problem.strerror})")
        return 2
    return status


@dataclass(frozen=True)
class Column:
    """How a column of a table is laid out.

    Attributes:
        number: to the right and never broken, or else to the left and broken where it must be.
        given_up: columns with a higher one are given up first where a terminal is too narrow; 0 for
            the one that stays.
        style: of a cell with this content.
        readable: columns of the terminal that a text should have to be broken into.
    """

    number: bool = False
    given_up: int = 0
    style: Mapping[str, str] | None = None
    readable: int = 12


def show(
    console: Console,
    columns: Mapping[str, Column],
    rows: Sequence[Sequence[str]],
    title: str = "",
    caption: str = "",
    most: int = MOST,
) -> None:
    """Print a table that fits: what there is no room for is given up by whole columns, and named.

    Args:
        console: where to.
        columns: name -> its layout.
        rows: a text for every column.
        title: above the table.
        caption: below it.
        most: columns of the terminal to use.
    """
    width = min(most, console.width)
    plain = [[printable(text, console.encoding) for text in row] for row in rows]
    kept = fitting(columns, plain, width)
    table = Table(title_justify="left", caption_justify="left")
    table.title = Text(printable(title, console.encoding)) if title else None
    for name in kept:
        justify: JustifyMethod = "right" if columns[name].number else "left"
        table.add_column(Text(name), justify=justify, overflow="fold", width=kept[name])
    for row in plain:
        cells = dict(zip(columns, row, strict=True))
        table.add_row(
            *(Text(cells[n], style=(columns[n].style or {}).get(cells[n], "")) for n in kept)
        )
    console.print(table, width=width)
    if caption:
        say(console, caption, style="italic dim")
    if left_out := [name for name in columns if name not in kept]:
        say(console, f"no room for: {', '.join(left_out)}", style="dim")


def fitting(
    columns: Mapping[str, Column], rows: Sequence[Sequence[str]], width: int
) -> dict[str, int]:
    """The columns that fit beside each other, frame included, and the width of each's text."""
    wanted = {
        name: max(
            cell_len(line)
            for text in (name, *(row[i] for row in rows))
            for line in text.split("\n")
        )
        for i, name in enumerate(columns)
    }
    given = {
        name: wanted[name] if column.number else min(wanted[name], column.readable)
        for name, column in columns.items()
    }

    def room() -> int:
        return width - sum(given.values()) - FRAME * len(given) - 1

    for name in sorted(columns, key=lambda name: -columns[name].given_up)[:-1]:
        if room() >= 0:
            break
        del given[name]
    if room() < 0:
        return {name: max(1, width - FRAME - 1) for name in given}
    while room() > 0 and (narrow := [name for name in given if given[name] < wanted[name]]):
        for name in narrow[: room()]:
            given[name] += 1
    return given
