"""What disturbed the machine while something was measured on it: others' work, heat, its host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

BUSY = 0.1
"""From this share of the CPU on, what others use can be seen in the figures."""

COMPANIONS: set[int] = set()
"""Processes that work for this one, by their numbers: what they use is not used by others."""

STOLEN = 0.02
"""A host that has room for its guests takes nothing from them; this much is a busy one."""


@dataclass(frozen=True)
class Usage:
    """Totals since the machine or the process started.

    Attributes:
        all_seconds: CPU time that all cores had, idle included.
        busy_seconds: CPU time that was used, or stolen by the host.
        own_seconds: CPU time that this process and its companions used.
        stolen_seconds: CPU time that a virtual machine wanted and its host gave to others.
        swapped_bytes: memory moved between RAM and disk.
    """

    all_seconds: float
    busy_seconds: float
    own_seconds: float
    stolen_seconds: float
    swapped_bytes: int


def usage() -> Usage:
    """The totals now."""
    times = psutil.cpu_times()._asdict()
    # Linux counts a guest's time a second time, as user time.
    total = sum(times.values()) - times.get("guest", 0) - times.get("guest_nice", 0)
    swap = psutil.swap_memory()
    return Usage(
        all_seconds=total,
        busy_seconds=total - times["idle"] - times.get("iowait", 0),
        own_seconds=sum(map(_used, (None, *COMPANIONS))),
        stolen_seconds=times.get("steal", 0.0),
        swapped_bytes=swap.sin + swap.sout,
    )


def _used(number: int | None) -> float:
    """Seconds of CPU time that a process used, None being this one; 0 of one that is gone."""
    with suppress(psutil.Error):
        used = psutil.Process(number).cpu_times()
        return float(used.user + used.system)
    return 0.0


class Watch:
    """Accumulates what others did between `start` and `stop`, over many such intervals.

    Args:
        read: gives the totals; replaced in tests.
    """

    def __init__(self, read: Callable[[], Usage] = usage) -> None:
        self._read = read
        self._begin = read()
        self._all = self._others = self._stolen = 0.0
        self.swapped_bytes = 0

    def start(self) -> None:
        """Begin an interval."""
        self._begin = self._read()

    def stop(self) -> float:
        """End the interval: the share of the machine's CPU time that others used in it."""
        end, begin = self._read(), self._begin
        total = end.all_seconds - begin.all_seconds
        own = end.own_seconds - begin.own_seconds
        others = max(0.0, end.busy_seconds - begin.busy_seconds - own)
        self._all += total
        self._others += others
        self._stolen += end.stolen_seconds - begin.stolen_seconds
        self.swapped_bytes += end.swapped_bytes - begin.swapped_bytes
        return _share(others, total)

    @property
    def others(self) -> float:
        """Share of the CPU time that others used in all intervals together, theft included."""
        return _share(self._others, self._all)

    @property
    def stolen(self) -> float:
        """Share of the CPU time that the host gave to others in all intervals together."""
        return _share(self._stolen, self._all)

    def advice(self) -> str:
        """What to tell the user, or nothing if the machine was quiet."""
        return advice(self.others, self.stolen, self.swapped_bytes)


def advice(others: float, stolen: float, swapped_bytes: int) -> str:
    """What to tell the user of shares of the CPU and of swapping, or nothing if all was quiet."""
    found = []
    if others >= BUSY:
        found.append(f"other programs used {others:.0%} of the CPU")
    if stolen >= STOLEN:
        found.append(f"the host gave {stolen:.0%} of the CPU to other virtual machines")
    if swapped_bytes:
        found.append(f"{swapped_bytes / 2**20:.0f} MiB were swapped")
    if not found:
        return ""
    return (
        f"While measuring, {' and '.join(found)}: timings are slower and noisier than this "
        "machine can do. Close other programs and run again; compare ratios, not seconds."
    )


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 0.0
