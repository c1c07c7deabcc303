"""Quantities as a reader wants them: a fitting unit, no digit that says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from reports.stats import estimates
from reports.stats.estimates import Interval

Units = Sequence[tuple[float, str]]

SECONDS: Units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
BYTES: Units = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
COUNTS: Units = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def scaled(value: float, units: Units) -> str:
    """`value` in the largest unit that leaves it at 1 or more, with three significant digits."""
    if not math.isfinite(value):
        return "—"
    scale, unit = fitting(value, units)
    return f"{digits(value / scale)} {unit}".rstrip()


def fitting(value: float, units: Units) -> tuple[float, str]:
    """The largest unit that leaves `value` at 1 or more, and its name."""
    # Half a unit in the last place shown: 999.6 µs reads 1.00 ms and not 1000 µs.
    return next((u for u in units if abs(value) >= 0.9995 * u[0]), units[-1])


def digits(value: float, significant: int = 3) -> str:
    """`value` with so many significant digits and no exponent: 1234.5 reads 1,230."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "—"
    decimals = significant - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(0, decimals)}f}"


def seconds(value: float) -> str:
    """12.3 ms."""
    return scaled(value, SECONDS)


def seconds_interval(value: Interval) -> str:
    """12.3 ms [12.1, 12.5]; ends far apart get a unit each."""
    return _ends_apart(value, seconds) or estimates.show(value, "s")


def times_interval(value: Interval) -> str:
    """1.25 [1.21, 1.29], for a ratio."""
    return _ends_apart(value, digits) or estimates.show(value)


def count_interval(value: Interval, smallest: int, largest: int) -> str:
    """[1,020, above 4,096] of a count; what lies beyond the counts measured is named by them."""
    low = f"{value.low:,.0f}" if value.low >= smallest else f"below {smallest:,}"
    high = f"{value.high:,.0f}" if value.high <= largest else f"above {largest:,}"
    return f"[{low}, {high}]"


def _ends_apart(value: Interval, unit: Callable[[float], str]) -> str:
    """All three in full where the interval spans more than a factor of ten; else nothing."""
    if value.high <= 10 * value.low or (value.low == 0 and math.isinf(value.high)):
        return ""
    high = unit(value.high) if math.isfinite(value.high) else "∞"
    return f"{unit(value.estimate)} [{unit(value.low)}, {high}]"


def num_bytes(value: float) -> str:
    """12.0 MiB; below 1 KiB to the byte."""
    return f"{value:.0f} B" if value < 1024 else scaled(value, BYTES)


def share(value: float) -> str:
    """23.3 %; the space does not break."""
    return f"{100 * value:.1f}\u00a0%" if math.isfinite(value) else "—"
