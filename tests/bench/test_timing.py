"""Timing on a clock that the test winds by hand: exact, and independent of the machine."""

import random
from types import SimpleNamespace

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.utils import NameWrapper

from bench.machine import clock as clocks
from bench.measure import l2, timing
from bench.measure.stopwatch import Bounds, Stopwatch


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


def fixture(clock, max_time, precision=0.01):
    return BenchmarkFixture(
        node=SimpleNamespace(name="node", nodeid="node"),
        disable_gc=False,
        timer=NameWrapper(clock),
        min_rounds=5,
        min_time=1e-3,
        max_time=max_time,
        precision=precision,
        confidence=0.95,
        warmup=False,
        warmup_iterations=0,
        calibration_precision=10,
        add_stats=lambda stats: None,
        logger=SimpleNamespace(debug=lambda *args, **kwargs: None),
        warner=None,
        disabled=False,
        cprofile=False,
        cprofile_loops=None,
        cprofile_dump=None,
    )


def stopwatch(clock, budget=0.1, timer=None):
    timer = timer or clock
    bounds = Bounds(max_time=budget, min_time=1e-3, precision=0.01)
    return Stopwatch(fixture(timer, budget), bounds, timer)


def measure(clock, call, budget=0.1, **others):
    return timing.measure(stopwatch(clock, budget), call, now=lambda: clock.now, **others)


def test_warm_up_ends_when_two_calls_agree():
    clock = Clock()
    call = clock.spend(1.0, 0.5, 0.3, 0.29, 0.01)
    assert timing.warm_up(call, clock, budget=100) == pytest.approx([1.0, 0.5, 0.3, 0.29])


def test_warm_up_ends_when_the_budget_is_spent():
    clock = Clock()
    call = clock.spend(*(2.0**-k for k in range(20)))
    assert sum(timing.warm_up(call, clock, budget=1.6)) == pytest.approx(1.75)


@pytest.mark.parametrize("duration", [20e-6, 1e-3, 30e-3, 5.0])
def test_seconds_are_those_of_one_call(duration):
    clock = Clock()
    timed = measure(clock, clock.spend(duration))
    assert timed.seconds == pytest.approx([duration] * len(timed.seconds), rel=1e-3)


def test_a_short_call_is_repeated_within_a_round():
    clock = Clock()
    timed = measure(clock, clock.spend(20e-6))
    assert timed.iterations * 20e-6 >= 1e-3
    assert len(timed.seconds) >= 5


def test_a_call_longer_than_the_budget_is_measured_once_after_its_warm_up():
    clock = Clock()
    call = clock.spend(5.0)
    timed = measure(clock, call)
    assert (len(timed.seconds), timed.iterations, call.count) == (1, 1, 2)


def test_a_long_call_known_from_an_earlier_pass_is_not_warmed_up_again():
    clock = Clock()
    call = clock.spend(5.0)
    timed = measure(clock, call, known_seconds=4.0)
    assert (timed.seconds, timed.warmup_seconds, call.count) == ([pytest.approx(5.0)], [], 1)


def test_a_machine_that_slows_down_after_calibration_does_not_hold_up_the_sweep():
    clock = Clock()
    calm = [1e-3] * 30
    call = clock.spend(*calm, *(0.1 * (1 + k % 3) for k in range(1000)), 1.0)
    begin = clock.now
    timed = measure(clock, call, budget=0.1)
    assert clock.now - begin < timing.PATIENCE * 0.1 + 10 * 0.3
    assert len(timed.seconds) >= 1


@pytest.mark.parametrize("scatter", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("duration", [1e-6, 20e-6, 0.4e-3, 3e-3])
def test_a_short_call_gets_the_rounds_that_pytest_benchmark_itself_would_give_it(duration, scatter):
    def play(measure):
        """The same call after a warm-up of two."""
        clock, chance = Clock(), random.Random(1)
        return measure(clock, lambda: clock.spend(duration * (1 + scatter * chance.random()))())

    def theirs(clock, call):
        benchmark = fixture(clock, 0.1)
        timing.warm_up(call, clock, 0.1)
        benchmark(call)
        return benchmark.stats["data"], benchmark.stats["iterations"]

    timed = play(measure)
    assert (timed.seconds, timed.iterations) == play(theirs)


def test_a_steady_call_stops_before_its_time_is_up():
    clock = Clock()
    timed = measure(clock, clock.spend(1e-3), budget=10.0)
    assert len(timed.seconds) == 5


def test_time_inside_the_call_is_all_that_was_spent_calling():
    clock = Clock()
    timed = measure(clock, clock.spend(5.0))
    assert timed.inside_seconds == pytest.approx(10.0)


def test_a_clock_that_goes_backwards_is_an_error_and_no_sample():
    clock = Clock()
    with pytest.raises(timing.ClockError, match="went backwards"):
        measure(clock, clock.spend(0.2, -0.1))


def test_the_harness_own_time_is_what_two_readings_of_the_clock_take():
    assert clocks.harness_seconds(Clock()) == pytest.approx(1e-9)


def flush(clock, calls, below_seconds=1e-3):
    def empty():
        clock.now += 1.0
        calls.append("flush")
        return "not an argument"

    return timing.Flush(empty, below_seconds)


def test_a_flush_precedes_every_round_and_is_not_timed():
    clock, calls = Clock(), []
    spend = clock.spend(1e-4)

    def call():
        calls.append("call")
        spend()

    timed = measure(clock, call, flush=flush(clock, calls))
    assert timed.iterations == 1
    assert timed.seconds == pytest.approx([1e-4] * len(timed.seconds), rel=1e-3)
    warmup = len(timed.warmup_seconds)
    assert calls[warmup : warmup + 2 * len(timed.seconds)] == ["flush", "call"] * len(timed.seconds)


def test_a_call_too_long_to_notice_is_not_preceded_by_a_flush():
    clock, calls = Clock(), []
    timed = measure(clock, clock.spend(2e-3), flush=flush(clock, calls))
    assert not calls
    assert len(timed.seconds) >= 5


def test_flushing_ends_when_the_time_is_up():
    clock = Clock()
    timed = measure(clock, clock.spend(1e-4), flush=flush(clock, []))
    assert len(timed.seconds) < timing.PATIENCE  # each flush alone takes ten budgets


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


def test_pytest_benchmark_takes_moments_on_the_gpu_for_a_timer(monkeypatch):
    monkeypatch.setattr(clocks.torch.cuda, "Event", Event)
    clock = Clock()
    monkeypatch.setattr(Event, "record", lambda self: setattr(self, "at", clock()))
    call = clock.spend(2e-4)
    watch = stopwatch(clock, timer=clocks.CudaInstant)
    timed = timing.measure(watch, call, now=lambda: clock.now)
    assert timed.seconds == pytest.approx([2e-4] * len(timed.seconds), rel=1e-3)
    assert timed.iterations > 1


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_tells_a_long_call_from_a_short_one():
    small, large = (torch.rand(n, n, device="cuda") for n in (256, 4_096))
    seconds = []
    for matrix in (small, large):
        timing.warm_up(lambda matrix=matrix: matrix @ matrix, clocks.CudaInstant, 0.1)
        begin = clocks.CudaInstant()
        matrix @ matrix
        seconds.append(clocks.CudaInstant() - begin)
    assert 0 < seconds[0] < seconds[1]
    assert l2.of_current_device().load_seconds > 0
