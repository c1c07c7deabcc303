"""Checked readers of one field of a JSON object.

Each takes the object and the field's name, and returns the value or raises a `ValueError` of one
line: what was expected, and what is there instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# A larger count may not survive a reader that holds numbers as floats; none here comes near.
LARGEST = 2**53 - 1
LONGEST_NAME = 60


def text(record: Mapping[str, Any], field: str, known: Sequence[str] = ()) -> str:
    """A string, one of `known` where these are given."""
    value = record.get(field)
    if not isinstance(value, str) or (known and value not in known):
        expected = " or ".join(known) if known else "a string"
        raise ValueError(f"{field}: expected {expected}, got {short(value)}")
    return value


def name(record: Mapping[str, Any], field: str) -> str:
    """A text short and plain enough to stand in a table and beside a line of a figure."""
    value = text(record, field)
    if not value.isprintable() or not 1 <= len(value) <= LONGEST_NAME:
        raise ValueError(
            f"{field}: expected 1 to {LONGEST_NAME} printable characters, got {short(value)}"
        )
    return value


def count(record: Mapping[str, Any], field: str, least: int = 0, most: int = LARGEST) -> int:
    """An integer in [least, most]."""
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f" and at most {most}" if most < LARGEST else ""
        raise ValueError(
            f"{field}: expected an integer of at least {least}{limit}, got {short(value)}"
        )
    return value


def number(record: Mapping[str, Any], field: str, low: float = 0, high: float = math.inf) -> float:
    """A number in [low, high]."""
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{field}: expected a number in [{low:g}, {high:g}], got {short(value)}")
    return float(value)


def loss(record: Mapping[str, Any], field: str) -> float:
    """A loss, NaN for null: "not finite" is a finding and not a mistake of the file."""
    value = record.get(field)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{field}: expected a number, got {short(value)}")
    return float(value)


def rows(record: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    """A list of objects."""
    value = record.get(field)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError(f"{field}: expected a list of objects, got {short(value)}")
    return value


def mapping(record: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """An object."""
    value = record.get(field)
    if not isinstance(value, dict):
        raise ValueError(f"{field}: expected an object, got {short(value)}")
    return value


def seconds(record: Mapping[str, Any], field: str, entries: int) -> np.ndarray:
    """At least `entries` seconds, all positive: (n,)."""
    return durations(record, field, entries, lambda value: 0 < value < math.inf, "positive")


def durations(
    record: Mapping[str, Any],
    field: str,
    entries: int,
    holds: Callable[[float], bool],
    expected: str,
) -> np.ndarray:
    """At least `entries` seconds for which `holds`, which `expected` says in a word: (n,)."""
    values = record.get(field)
    if (
        not isinstance(values, list)
        or len(values) < entries
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        or not all(holds(v) for v in values)
    ):
        raise ValueError(
            f"{field}: expected a list of at least {entries} {expected} numbers, "
            f"got {short(values)}"
        )
    return np.array(values, dtype=np.float64)


def short(value: object) -> str:
    """`value` as an error shows it: at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
