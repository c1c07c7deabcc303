"""The machine's frequency and temperature during a run, and whether heat or power held it back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from bench.machine import identity

INTERVAL = 60.0
"""Seconds between readings: heat takes minutes, and asking a GPU takes a tenth of a second."""

SLOWED = 0.9
"""A processor below this share of the highest clock seen during a run is held back."""

HELD_BACK = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""NVML's bits of what lowers a GPU's clock against its owner's wish (nvmlClocksEventReason...)."""


@dataclass(frozen=True)
class Condition:
    """One reading; None where the machine has no such sensor or does not show it.

    Attributes:
        seconds: since the first reading.
        cpu_mhz: of the fastest core, which is one that works.
        cpu_celsius: of the hottest sensor of the processor.
        gpu_mhz: of the multiprocessors.
        gpu_celsius: of the GPU.
        gpu_held_back: why its clock is below what it could be, empty if it is not.
    """

    seconds: float
    cpu_mhz: float | None = None
    cpu_celsius: float | None = None
    gpu_mhz: float | None = None
    gpu_celsius: float | None = None
    gpu_held_back: str = ""


def read(device: str) -> Condition:
    """The condition now, at second 0."""
    gpu = _gpu() if device.startswith("cuda") else {}
    return Condition(0.0, cpu_mhz=_cpu_mhz(), cpu_celsius=_cpu_celsius(), **gpu)


def _cpu_mhz() -> float | None:
    try:
        cores = psutil.cpu_freq(percpu=True)
    except (OSError, NotImplementedError):
        return None
    return max((core.current for core in cores or ()), default=0.0) or None


def _cpu_celsius() -> float | None:
    ask = getattr(psutil, "sensors_temperatures", dict)  # only some systems have it
    return max(
        (
            sensor.current
            for chip, sensors in ask().items()
            if chip in ("coretemp", "k10temp", "zenpower", "cpu_thermal")
            for sensor in sensors
        ),
        default=None,
    )


def _gpu() -> dict[str, Any]:
    mhz, celsius = (identity.nvidia_smi(of) for of in ("clocks.current.sm", "temperature.gpu"))
    reasons = identity.nvidia_smi("clocks_event_reasons.active")
    if not reasons.startswith("0x"):  # what drivers before 535 call it
        reasons = identity.nvidia_smi("clocks_throttle_reasons.active")
    return {
        "gpu_mhz": float(mhz) if mhz.isdecimal() else None,
        "gpu_celsius": float(celsius) if celsius.isdecimal() else None,
        "gpu_held_back": held_back(int(reasons, 16) if reasons.startswith("0x") else 0),
    }


def held_back(reasons: int) -> str:
    """NVML's bit mask in words."""
    return ", ".join(why for bit, why in HELD_BACK.items() if reasons & bit)


class Log:
    """Readings once in `INTERVAL` seconds, whenever somebody asks.

    Args:
        device: the one that is measured.
        read: gives a reading; replaced in tests.
        clock: gives seconds; replaced in tests.
    """

    def __init__(
        self,
        device: str,
        read: Callable[[str], Condition] = read,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device, self._read, self._clock = device, read, clock
        self._begin = self._last = clock()
        self.conditions = [read(device)]

    def look(self) -> None:
        """Take a reading if the last one is old."""
        if self._clock() - self._last >= INTERVAL:
            self.note()

    def note(self) -> None:
        """Take a reading."""
        self._last = self._clock()
        reading = self._read(self._device)
        since = round(self._last - self._begin, 1)
        self.conditions.append(Condition(**asdict(reading) | {"seconds": since}))

    def to_json(self) -> list[dict[str, Any]]:
        """The readings as `run.json` keeps them, without what was not seen."""
        return [
            {name: value for name, value in asdict(one).items() if value not in (None, "")}
            for one in self.conditions
        ]


def throttling(conditions: Sequence[Condition]) -> str:
    """How the machine was held back, in words; nothing if its clocks held."""
    found = []
    # The first reading is of one core that starts the run, which may go faster than all together.
    clocks = [one.cpu_mhz for one in conditions[1:] if one.cpu_mhz]
    if clocks and min(clocks) < SLOWED * max(clocks):
        found.append(f"the CPU's clock fell from {max(clocks):.0f} to {min(clocks):.0f} MHz")
    reasons = dict.fromkeys(one.gpu_held_back for one in conditions if one.gpu_held_back)
    if reasons:
        found.append(f"the GPU's clock was held back ({', '.join(reasons)})")
    return " and ".join(found)


def advice(conditions: Sequence[Condition]) -> str:
    """What to tell the user, or nothing if the clocks held."""
    found = throttling(conditions)
    if not found:
        return ""
    return (
        f"While measuring, {found}: timings are slower than this machine can do. Let it cool, look "
        "at its power limit, and run again; compare ratios, not seconds."
    )
