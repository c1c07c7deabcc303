"""What the machine can do at most: the limits that a run measured at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.stats.estimates import Interval

MOST = 1e24
"""A second, of bytes or multiply-adds: a million times the largest machine there is."""


@dataclass(frozen=True)
class Roofs:
    """What the machine can do at most; each interval spans the slowest and the fastest round.

    Attributes:
        bandwidth: bytes read and written per second.
        peak: multiply-adds per second.
        dtype: of the product that reached the peak.
    """

    bandwidth: Interval
    peak: Interval
    dtype: str = "float32"

    @property
    def ridge(self) -> float:
        """Multiply-adds per byte from which on arithmetic binds and no longer memory."""
        return self.peak.estimate / self.bandwidth.estimate


def roofs(machine: Mapping[str, Any], dtype: str = "float32") -> Roofs | None:
    """The limits among a run's machine facts; None in runs that have not measured them.

    Args:
        machine: facts.
        dtype: of a cell; under autocast, products are made in that of its name.
    """
    dtype = dtype.removeprefix("autocast-")
    of = "" if dtype == "float32" else f"{dtype}_"
    bandwidth = _limit(machine, "copy_bytes_per_second")
    peak = _limit(machine, f"peak_{of}multiply_adds_per_second")
    return Roofs(bandwidth, peak, dtype) if bandwidth and peak else None


def _limit(machine: Mapping[str, Any], name: str) -> Interval | None:
    low, estimate, high = (_rate(machine.get(name + end)) for end in ("_low", "", "_high"))
    return Interval(low or estimate, estimate, high or estimate) if estimate else None


def _rate(value: object) -> float | None:
    """A rate that a machine may have, or None for whatever else a file may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST:
        return None
    return float(value)
