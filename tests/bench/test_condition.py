"""Clocks and temperatures: read once a minute, kept as far as seen, and said when they fell."""

from __future__ import annotations

import pytest

from bench.machine import condition, identity
from bench.machine.condition import Condition, Log


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_reading_is_taken_at_the_start_and_once_a_minute():
    clock = Clock()
    log = Log("cpu", lambda device: Condition(0.0, cpu_mhz=3_000), clock)
    for second in range(0, 200, 10):
        clock.now = float(second)
        log.look()
    log.note()
    assert [one.seconds for one in log.conditions] == [0, 60, 120, 180, 190]
    assert log.to_json()[1] == {"seconds": 60.0, "cpu_mhz": 3_000}


def test_this_machine_is_read_without_a_gpu():
    found = condition.read("cpu")
    assert found.gpu_mhz is None
    assert found.cpu_mhz is None or found.cpu_mhz > 100


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["1980", "45", "0x0000000000000000"], (1_980, 45, "")),
        (["345", "30", "0x0000000000000001"], (345, 30, "")),  # idle
        (
            ["1200", "84", "unknown", "0x0000000000000044"],
            (1_200, 84, "power cap, heat (hardware)"),
        ),
        (["unknown"] * 4, (None, None, "")),
        (["[N/A]", "50", "[N/A]", "[N/A]"], (None, 50, "")),
    ],
)
def test_a_gpu_is_read_through_its_driver(monkeypatch, answers, expected):
    remaining = list(answers)
    monkeypatch.setattr(identity, "nvidia_smi", lambda query: remaining.pop(0))
    found = condition.read("cuda:1")
    assert (found.gpu_mhz, found.gpu_celsius, found.gpu_held_back) == expected


def test_clocks_that_hold_are_not_complained_about():
    steady = [Condition(60.0 * k, cpu_mhz=3_000 - 50 * k, gpu_mhz=1_980) for k in range(4)]
    assert condition.advice(steady) == ""
    # One core alone may go faster than all together.
    assert condition.advice([Condition(0.0, cpu_mhz=4_500), *steady]) == ""


def test_a_clock_that_falls_is_said_with_what_to_do():
    said = condition.advice(
        [Condition(60.0 * k, cpu_mhz=mhz) for k, mhz in enumerate((1, 3_000, 2_000))]
    )
    assert "the CPU's clock fell from 3000 to 2000 MHz" in said
    assert "Let it cool" in said


def test_why_a_gpu_was_held_back_is_said_once():
    hot = [Condition(60.0 * k, gpu_mhz=1_200, gpu_held_back="power cap") for k in range(3)]
    assert condition.advice(hot).count("power cap") == 1
