"""Command lines: every value has a stated range, and a mistake is answered in one line."""

from __future__ import annotations

import math
import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import NoReturn, TypeVar

from reports import terminal

Value = TypeVar("Value")

MOST_VALUES = 64
"""In a list: more are a slip, such as the output of another command."""

MOST_CLASSES = 2**53 - 1
"""What a float holds to the unit; the page computes with those."""

MOST_SEED = 2**31 - 1
"""NumPy's older generators end at 2^32, and seeds are counted on from the one given."""

SHOWN = 40
"""Characters of a mistake that are repeated to whoever made it."""


class Parser(ArgumentParser):
    """Answers a mistake in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with status 2."""
        terminal.error(message)
        self.exit(2)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number from `low` to `high`, both included, in the digits 0 to 9."""

    def read(given: str) -> int:
        text = given.strip()
        # More digits than the range has are not even converted: that takes quadratic time.
        if re.fullmatch(r"-?0*[0-9]{1,20}", text, re.ASCII) and low <= int(text) <= high:
            return int(text)
        raise ArgumentTypeError(f"expected a whole number from {low} to {high}, got {shown(given)}")

    return read


def number(low: float, high: float, inside: bool = False) -> Callable[[str], float]:
    """Reads a decimal number from `low` to `high`; those two are left out if it must lie inside."""
    span = f"between {low:g} and {high:g}" if inside else f"from {low:g} to {high:g}"

    def read(given: str) -> float:
        text = given.strip()
        if re.fullmatch(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", text, re.ASCII):
            value = float(text)
            if math.isfinite(value) and (low < value < high if inside else low <= value <= high):
                return value
        raise ArgumentTypeError(f"expected a number {span}, got {shown(given)}")

    return read


def several(read: Callable[[str], Value]) -> Callable[[str], tuple[Value, ...]]:
    """Reads values parted by commas; each counts once, in the order in which they were given."""

    def read_all(given: str) -> tuple[Value, ...]:
        found = tuple(dict.fromkeys(read(part.strip()) for part in given.split(",")))
        if len(found) > MOST_VALUES:
            raise ArgumentTypeError(f"expected at most {MOST_VALUES} values, got {len(found)}")
        return found

    return read_all


def shown(given: str) -> str:
    """A mistake as it is repeated: in quotes, printable, and not longer than a line."""
    return repr(given if len(given) <= SHOWN else f"{given[:SHOWN]}…")
