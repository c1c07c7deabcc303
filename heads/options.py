"""The checks of what a caller gives: a value of the wrong kind or size is refused in one line."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

CALL = re.compile(r"([\w.-]+)(?:\((.*)\))?", re.ASCII)
"""`name` or `name(option=value,...)`."""

VALUE = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*", re.ASCII)
"""A number, a word, or several of them parted by slashes, as commas part options."""


def integer(name: str, value: Any, low: int, high: int | None = None, limit: str = "") -> int:
    """`value` as an int of at least `low` and at most `high`.

    Args:
        name: what the caller calls it.
        value: an integer of Python, NumPy or torch; a bool or a float is none.
        low: the least allowed.
        high: the most allowed; by default, any.
        limit: what sets `high`, in words.

    Raises:
        ValueError: it is not.
    """
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None:
        raise ValueError(f"{name} must be an integer, got {shown(value)}")
    if whole < low or (high is not None and whole > high):
        allowed = f"at least {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} must be {allowed}{f' ({limit})' if limit else ''}, got {whole}")
    return whole


def number(name: str, value: Any, low: float, *, above: bool = False) -> float:
    """`value` as a finite float of at least `low`, or `above` it; otherwise a `ValueError`."""
    try:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError
        result = float(value)
    except (TypeError, OverflowError):
        result = math.nan
    if not (math.isfinite(result) and (result > low if above else result >= low)):
        allowed = "above" if above else "at least"
        raise ValueError(f"{name} must be {allowed} {low:g} and finite, got {shown(value)}")
    return result


def flag(name: str, value: Any) -> bool:
    """`value`, a bool; a `ValueError` for whatever is merely true or false in an `if`."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """`value` in a message: as it is where that is short, else its type."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def parse(given: str) -> tuple[str, dict[str, Any]]:
    """A name with options, as in a call: `adaptive(cutoffs=1000/5000)` -> name, option -> value.

    Raises:
        ValueError: it is not written so.
    """
    call = CALL.fullmatch("".join(given.split()))
    if call is None:
        raise ValueError(f"expected a name or name(option=value,...), got {shown(given)}")
    name, inside = call.groups()
    options: dict[str, Any] = {}
    for part in (inside or "").split(",") if inside else ():
        option, _, value = part.partition("=")
        if not (option.isidentifier() and VALUE.fullmatch(value)):
            raise ValueError(f"{name}: expected option=value, got {shown(part)}")
        if option in options:
            raise ValueError(f"{name}: the option {option!r} is given twice")
        values = [_value(one) for one in value.split("/")]
        options[option] = values if len(values) > 1 else values[0]
    return name, options


def spell(options: Mapping[str, Any]) -> str:
    """Inverse of `parse`, for what stands in the parentheses."""
    return ",".join(
        f"{option}={'/'.join(map(_spelt, value if isinstance(value, list) else [value]))}"
        for option, value in options.items()
    )


def _value(text: str) -> bool | int | float | str:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _spelt(value: bool | int | float | str) -> str:
    return repr(value).replace("e+", "e") if isinstance(value, float) else str(value)
