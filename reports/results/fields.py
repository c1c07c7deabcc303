"""Records whose fields are checked as they are read, and the checks.

A check takes a JSON object, the field's name and what it was given in `checked`; it returns the
value or raises a `ValueError` of one line: what was expected, and what is there instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import numpy as np

LARGEST = 2**53 - 1
"""A larger count may not survive a reader that holds numbers as floats; none here comes near."""

LONGEST_NAME = 60
LONGEST = 1e9
"""Seconds, 31 years: nothing that was measured took longer."""

SHORTEST = 1e-12
"""Seconds: no clock resolves them, so what took less took no time that could be measured."""

LARGEST_LOSS = 3.4e38
"""What float32 holds; a loss beyond is not finite."""


@dataclass(frozen=True)
class Record:
    """A dataclass that is written and read field by field, each as its metadata says: `checked`."""

    def dump(self) -> dict[str, Any]:
        """The record as JSON has it."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `dump`.

        Raises:
            ValueError: a field is not what the format says; the message names it.
        """
        return cls(
            **{
                one.name: one.metadata["check"](record, one.name)
                for one in fields(cls)
                if one.name in record or not one.metadata["later"]
            }
        )


AnyRecord = TypeVar("AnyRecord", bound=Record)
Word = TypeVar("Word", bound=str)


def checked(check: Callable[..., Any], *given: Any, later: bool = False) -> dict[str, Any]:
    """Metadata of a record's field: how it is read.

    Args:
        check: one of the functions below.
        given: what it takes beside the object and the name.
        later: whether it may be absent, because there was the format before there was the field;
            its default then has to be what it was before.
    """
    return {"check": lambda record, name: check(record, name, *given), "later": later}


def _plain(value: Any) -> Any:
    """`value` of JSON's own types; a single number that is not one is null."""
    if isinstance(value, Record):
        return value.dump()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def optional(record: Mapping[str, Any], field: str, check: Callable[..., Any], *given: Any) -> Any:
    """What `check` returns, or None for null."""
    return None if record.get(field) is None else check(record, field, *given)


def one(record: Mapping[str, Any], field: str, kind: type[AnyRecord]) -> AnyRecord:
    """A record of this kind."""
    return kind.load(mapping(record, field))


def many(record: Mapping[str, Any], field: str, kind: type[AnyRecord]) -> tuple[AnyRecord, ...]:
    """A list of records of this kind."""
    return tuple(map(kind.load, rows(record, field)))


def each(
    record: Mapping[str, Any], field: str, check: Callable[..., Any], *given: Any
) -> tuple[Any, ...]:
    """A list, every one of which `check` returns."""
    values = record.get(field)
    if not isinstance(values, list | tuple):
        raise ValueError(f"{field}: expected a list, got {short(values)}")
    return tuple(check({field: value}, field, *given) for value in values)


def flag(record: Mapping[str, Any], field: str) -> bool:
    """Whether it is true; anything else counts as false."""
    return record.get(field) is True


def text(record: Mapping[str, Any], field: str) -> str:
    """A string."""
    value = record.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{field}: expected a string, got {short(value)}")
    return value


def choice(record: Mapping[str, Any], field: str, known: Sequence[Word]) -> Word:
    """One of `known`."""
    value = record.get(field)
    for word in known:
        if value == word:
            return word
    raise ValueError(f"{field}: expected {' or '.join(known)}, got {short(value)}")


def name(record: Mapping[str, Any], field: str, least: int = 1, most: int = LONGEST_NAME) -> str:
    """A text short and plain enough to stand in a table and beside a line of a figure."""
    value = text(record, field)
    if not value.isprintable() or not least <= len(value) <= most:
        raise ValueError(
            f"{field}: expected {least} to {most} printable characters, got {short(value)}"
        )
    return value


def machine_name(record: Mapping[str, Any], field: str, least: int = 1) -> str:
    """A name of a machine of a cluster, of which a file's name can be made."""
    value = text(record, field)
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{{least},{LONGEST_NAME}}}", value):
        raise ValueError(
            f"{field}: expected {least} to {LONGEST_NAME} letters, digits, '.', '_' and '-', "
            f"got {short(value)}"
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


def number(record: Mapping[str, Any], field: str, low: float = 0, high: float = LARGEST) -> float:
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
    return float(value) if abs(value) <= LARGEST_LOSS else math.nan


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


def seconds(record: Mapping[str, Any], field: str) -> float:
    """A time; 0 where the clock was too coarse for it."""
    return number(record, field, 0, LONGEST)


def durations(record: Mapping[str, Any], field: str, entries: int = 1) -> np.ndarray:
    """At least `entries` times in seconds, 0 where the clock was too coarse for them: (n,)."""
    values = record.get(field)
    if (
        not isinstance(values, list | tuple)
        or len(values) < entries
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        or not all(0 <= v <= LONGEST for v in values)
    ):
        raise ValueError(
            f"{field}: expected a list of at least {entries} numbers in [0, {LONGEST:g}], "
            f"got {short(values)}"
        )
    return np.array(values, dtype=np.float64)


def alike(record: Mapping[str, Any], field: str, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Each of `names` -> seconds, as many for each: (n,)."""
    given = mapping(record, field)
    taken = {name: durations(given, name) for name in names}
    if len({len(values) for values in taken.values()}) > 1:
        raise ValueError(f"{field}: expected as many numbers for each of {', '.join(names)}")
    return taken


def numbers(record: Mapping[str, Any], field: str, names: Sequence[str]) -> Mapping[str, float]:
    """Each of `names` -> a number that is not negative."""
    given = mapping(record, field)
    return {name: number(given, name) for name in names}


def short(value: object) -> str:
    """`value` as an error shows it: at most 40 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists in lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 40 else f"{text[:37]}..."
