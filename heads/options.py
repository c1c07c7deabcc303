"""The checks of what a caller gives: a value of the wrong kind or size is refused in one line."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any


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
