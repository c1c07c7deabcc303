"""Timing on a clock that the test winds by hand: exact, and independent of the machine."""

import math
import mmap
import sys
import time
from functools import partial

import pytest
import torch

from bench.machine import clock as clocks
from bench.measure import l2, timing
from bench.measure.timing import Timed


class Clock:
    """Stands still, but for what `spend` adds and a tiny tick per reading."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-9
        return self.now

    def spend(self, *durations):
        remaining = list(durations)

        def call():
            self.now += remaining.pop(0) if len(remaining) > 1 else remaining[0]
            call.count += 1

        call.count = 0
        return call


def test_warm_up_ends_when_two_calls_agree():
    clock = Clock()
    call = clock.spend(1.0, 0.5, 0.3, 0.29, 0.01)
    seconds = [one.seconds for one in timing.warm_up(Timed(call), clock, budget=100)]
    assert seconds == pytest.approx([1.0, 0.5, 0.3, 0.29])


def test_warm_up_ends_when_the_budget_is_spent():
    clock = Clock()
    call = clock.spend(*(2.0**-k for k in range(20)))
    calls = timing.warm_up(Timed(call), clock, budget=1.6)
    assert sum(one.seconds for one in calls) == pytest.approx(1.75)


@pytest.mark.parametrize("duration", [1e-6, 20e-6, 0.4e-3, 3e-3])
def test_calibration_finds_the_calls_that_make_a_slice(duration):
    clock = Clock()
    calls = timing.calibrate(Timed(clock.spend(duration)), clock, 1e-3)
    assert 1e-3 <= calls * duration * 1.01 <= max(1e-3, duration) * 1.25


def test_what_is_done_before_a_call_is_not_timed():
    clock, made = Clock(), []

    def before():
        clock.now += 1.0
        made.append("before")

    def call():
        clock.now += 1e-4
        made.append("call")

    played = timing.play(Timed(call, before), 3, clock)
    assert played.seconds == pytest.approx(3e-4, rel=1e-3)
    assert made == ["before", "call"] * 3


def test_calls_with_nothing_between_them_are_under_one_clock():
    clock = Clock()
    read = clock.now
    assert timing.play(Timed(clock.spend(1e-4)), 1000, clock).seconds == pytest.approx(0.1)
    assert clock.now - read == pytest.approx(0.1 + 2e-9)


@pytest.mark.parametrize("calls", [1, 4])
def test_laps_add_up_to_the_call_that_they_are_parts_of(calls):
    clock = Clock()
    laps = tuple(clock.spend(seconds) for seconds in (1e-4, 2e-4, 4e-4))
    played = timing.play(Timed(lambda: None, laps=laps), calls, clock)
    seconds = [lap.seconds for lap in played.laps]
    assert seconds == pytest.approx([calls * 1e-4, calls * 2e-4, calls * 4e-4], rel=1e-3)
    assert sum(seconds) == played.seconds
    assert [lap.count for lap in laps] == [calls] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count them")
def test_pages_are_counted_in_the_lap_that_touches_them():
    def faults(calls):
        timed = Timed(lambda: None, laps=(lambda: None, lambda: touch(200)))
        played = timing.play(timed, calls, time.perf_counter)
        return [one.account.minor_faults for one in (*played.laps, played)]

    idle, touching, both = faults(calls=1)
    assert touching == pytest.approx(200, rel=0.2)
    assert idle < 50
    assert both == idle + touching
    *laps, both = faults(calls=3)
    assert both == pytest.approx(600, rel=0.2)
    assert all(math.isnan(lap) for lap in laps)


def touch(pages):
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as fresh:
        for index in range(pages):
            fresh[index * mmap.PAGESIZE] = 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count them")
def test_pages_are_counted_in_the_call_and_not_before_it():
    def faults(timed):
        return timing.play(timed, 5, time.perf_counter).account.minor_faults / 5

    some = partial(touch, 200)
    assert faults(Timed(some)) == pytest.approx(200, rel=0.2)
    assert faults(Timed(some, before=some)) == pytest.approx(200, rel=0.2)
    assert faults(Timed(lambda: None, before=some)) < 50


def test_the_harness_own_time_is_what_two_readings_of_the_clock_take():
    assert clocks.harness_seconds(Clock()) == pytest.approx(1e-9)


class Event:
    """Marks when the stream gets there: once everything queued before it is done."""

    stream = 0.0
    waited = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = Event.stream

    def synchronize(self):
        Event.waited += 1

    def elapsed_time(self, later):
        return 1e3 * (later.at - self.at)


def test_a_moment_on_the_gpu_is_not_waited_for_until_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(clocks.torch.cuda, "Event", Event)
    begin = clocks.CudaInstant()
    Event.stream += 0.25
    end = clocks.CudaInstant()
    assert Event.waited == 0
    assert end - begin == pytest.approx(0.25)
    assert Event.waited == 1


def test_moments_on_the_gpu_are_waited_for_after_the_calls(monkeypatch):
    monkeypatch.setattr(clocks.torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "waited", 0)
    seen = []

    def call():
        Event.stream += 0.25
        seen.append(Event.waited)

    played = timing.play(Timed(call, before=lambda: None), 4, clocks.CudaInstant)
    assert played.seconds == pytest.approx(1.0)
    assert seen == [0] * 4


@pytest.mark.parametrize(
    ("working_set", "below_seconds"), [(2**20, 0.1e-3), (2**22, 0.4e-3), (2**30, 0.4e-3)]
)
def test_a_flush_matters_to_calls_that_loading_the_cache_again_would_lengthen(
    working_set, below_seconds
):
    cache = l2.L2(num_bytes=2**22, load_seconds=20e-6, spoiler=torch.ones(3))
    flushing = cache.flush(working_set)
    assert flushing.below_seconds == pytest.approx(below_seconds)
    flushing.call()
    assert not cache.spoiler.any()


@pytest.mark.cuda
def test_a_gpu_tells_a_long_call_from_a_short_one():
    small, large = (torch.rand(n, n, device="cuda") for n in (256, 4_096))
    seconds = []
    for matrix in (small, large):
        timing.warm_up(Timed(lambda matrix=matrix: matrix @ matrix), clocks.CudaInstant, 0.1)
        begin = clocks.CudaInstant()
        matrix @ matrix
        seconds.append(clocks.CudaInstant() - begin)
    assert 0 < seconds[0] < seconds[1]
    assert l2.of_current_device().load_seconds > 0
