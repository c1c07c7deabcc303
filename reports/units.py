"""Quantities as a reader wants them: a fitting unit, no digit that says nothing.

Numbers are rounded first; unit and decimals are those that the rounded number needs, so that
999.96 µs, to three digits, is 1.00 ms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reports.stats.estimates import Interval

Units = Sequence[tuple[float, str]]

SECONDS: Units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
BYTES: Units = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
COUNTS: Units = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
PLAIN: Units = ((1.0, ""),)

NEGLIGIBLE = 1e-5
"""An interval of less, relative to its estimate, is that of an exact value: floats rounded it."""


@dataclass(frozen=True)
class Shown:
    """An estimate and its interval in brackets, which is empty where there is none to show."""

    estimate: str
    bracket: str = ""

    def __str__(self) -> str:
        return f"{self.estimate} {self.bracket}".rstrip()


def digits(value: float, significant: int = 3) -> str:
    """`value` with so many significant digits and no exponent: 1234.5 reads 1,230."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "—"
    decimals = significant - 1 - _exponent(value, significant)
    return f"{round(value, decimals):,.{max(0, decimals)}f}"


def _exponent(value: float, significant: int) -> int:
    """Of ten, in `value` rounded to so many digits: 1 in 9.996 to three."""
    return int(f"{value:.{significant - 1}e}".partition("e")[2])


def exact(text: str) -> str:
    """10.0 µs -> 10 µs, 2.50 ms -> 2.5 ms: what is exact needs no zeros."""
    return re.sub(r"\.(?=\D|$)", "", re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", text))


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


def show(value: Interval, units: Units = PLAIN) -> Shown:
    """58.42 µs [57.91, 58.93]: no more digits than the interval supports.

    Its shorter arm is shown to two digits, and the rest as far. An exact value (a count) stands
    alone, to four significant digits; one that nothing bounds says so.
    """
    if not (math.isfinite(value.low) and math.isfinite(value.high)):
        return Shown(f"{exact(scaled(value.estimate, units))} (no interval)")
    arms = (value.estimate - value.low, value.high - value.estimate)
    width = min((arm for arm in arms if arm > 0), default=0.0)
    for scale, name in units:
        low, estimate, high = (end / scale for end in (value.low, value.estimate, value.high))
        if width / scale <= NEGLIGIBLE * max(1.0, abs(estimate)):
            shown = Shown(f"{exact(digits(round(estimate, 5), 4))} {name}".rstrip())
            rounded = float(f"{estimate:.4g}")
        else:
            decimals = max(0, 1 - _exponent(width / scale, 2))
            rounded = round(estimate, decimals)
            shown = Shown(
                f"{estimate:.{decimals}f} {name}".rstrip(),
                f"[{low:.{decimals}f}, {high:.{decimals}f}]",
            )
        if abs(rounded) >= 1:
            break
    return shown


def seconds(value: float) -> str:
    """12.3 ms."""
    return scaled(value, SECONDS)


def seconds_interval(value: Interval) -> Shown:
    """12.3 ms [12.1, 12.5]; ends far apart get a unit each."""
    return _ends_apart(value, seconds) or show(value, SECONDS)


def times_interval(value: Interval) -> Shown:
    """1.25 [1.21, 1.29], for a ratio."""
    return _ends_apart(value, digits) or show(value)


def count_interval(value: Interval, smallest: int, largest: int) -> str:
    """[1,020, above 4,096] of a count; what lies beyond the counts measured is named by them."""
    low = f"{value.low:,.0f}" if value.low >= smallest else f"below {smallest:,}"
    high = f"{value.high:,.0f}" if value.high <= largest else f"above {largest:,}"
    return f"[{low}, {high}]"


def _ends_apart(value: Interval, unit: Callable[[float], str]) -> Shown | None:
    """All three in full where the interval spans more than a factor of ten; else nothing."""
    if value.high <= 10 * value.low or (value.low == 0 and math.isinf(value.high)):
        return None
    high = unit(value.high) if math.isfinite(value.high) else "∞"
    return Shown(unit(value.estimate), f"[{unit(value.low)}, {high}]")


def num_bytes(value: float) -> str:
    """12.0 MiB; below 1 KiB to the byte."""
    return f"{value:.0f} B" if round(value) < 1024 else scaled(value, BYTES)


def share(value: float) -> str:
    """23.3 %; the space does not break."""
    return f"{100 * value:.1f}\u00a0%" if math.isfinite(value) else "—"


def share_interval(value: Interval) -> Shown:
    """23.3 % [22.5, 24.1]; one that nothing bounds says so."""
    if not (math.isfinite(value.low) and math.isfinite(value.high)):
        return Shown(f"{share(value.estimate)} (no interval)")
    return Shown(share(value.estimate), f"[{100 * value.low:.1f}, {100 * value.high:.1f}]")
