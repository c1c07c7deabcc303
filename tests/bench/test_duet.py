"""Rivals take turns: on a clock that the test winds by hand, whoever is slow or fails."""

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import duet
from bench.measure.duet import ANCHORED, LONGEST_SLICE, PATIENCE, UNEVEN, Rival, schedule
from bench.measure.stopwatch import Bounds, Stopwatch
from bench.measure.timing import ClockError, Flush, Timed, Timing

slices = st.lists(st.floats(1e-4, 10.0), min_size=1, max_size=8)


@given(slices, st.floats(1e-3, 10.0))
def test_all_turns_together_fit_into_the_budget(seconds, budget):
    turns, gaps = schedule(seconds, budget)
    first = sum(seconds)
    later = sum(s * ((turns - 1) // gap) for s, gap in zip(seconds, gaps, strict=True))
    assert turns == 1 or later <= budget
    assert turns > 1 or first + later == pytest.approx(first)


@given(slices, st.floats(1e-3, 10.0))
def test_the_slower_of_two_always_finds_the_faster_one_there(seconds, budget):
    _, gaps = schedule(seconds, budget)
    for (fast, often), (slow, seldom) in zip(
        *(2 * [sorted(zip(seconds, gaps, strict=True))]), strict=True
    ):
        assert slow >= fast
        assert seldom % often == 0
    assert gaps[seconds.index(min(seconds))] == 1


@given(slices)
def test_the_slow_take_their_part_of_the_time_and_not_more(seconds):
    _, gaps = schedule(seconds, 1.0)
    shares = [s / gap for s, gap in zip(seconds, gaps, strict=True)]
    assert max(shares) <= UNEVEN * min(seconds) * (1 + 1e-9)
    assert all(2 * share > min(seconds) for share in shares)


class Machine:
    """A clock that stands still but for what calls spend, and all that was called."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        self.now += 1e-9
        return self.now

    def rival(self, name, seconds, before=None, **others):
        def call():
            self.now += seconds(len(self.calls)) if callable(seconds) else seconds
            self.calls.append(name)

        return Rival(Timed(call, before), **others)


BOUNDS = Bounds(max_time=0.06, min_time=1e-3, precision=0.0)


def play(machine, rivals, bounds=BOUNDS, seed=0, **others):
    return duet.measure(rivals, bounds, machine, seed, now=lambda: machine.now, **others)


def rivals(machine, **seconds):
    return {name: machine.rival(name, second) for name, second in seconds.items()}


@pytest.mark.parametrize("fast", [1e-6, 20e-6, 0.4e-3])
def test_seconds_are_those_of_one_call_and_turns_pair_them(fast):
    machine = Machine()
    timings = play(machine, rivals(machine, fast=fast, slow=3e-3, long=70e-3)).timings
    for name, seconds in (("fast", fast), ("slow", 3e-3), ("long", 70e-3)):
        assert timings[name].seconds == pytest.approx([seconds] * len(timings[name].seconds), 2e-3)
        assert set(timings[name].turns) <= set(timings["fast"].turns)
        assert len(timings[name].turns) == len(timings[name].seconds)
    assert timings["fast"].iterations * fast >= 1e-3
    assert timings["long"].iterations == 1
    assert len(timings["fast"].seconds) > 4 * len(timings["long"].seconds)


def test_calls_of_a_turn_are_next_to_each_other_in_random_order():
    machine = Machine()
    played = play(machine, rivals(machine, a=2e-3, b=2e-3, c=2e-3))
    turns = len(played.timings["a"].seconds)
    assert turns == pytest.approx(30, abs=1)
    order = machine.calls[-3 * turns :]
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) == 6


@pytest.mark.parametrize("unit", [1e-6, 1e-4, 0.1])
def test_laps_have_rounds_of_the_same_turns_and_add_up(unit):
    machine = Machine()
    laps = [machine.rival("lap", share * unit).timed.call for share in (1, 2, 4)]
    both = {
        "laps": Rival(Timed(lambda: [lap() for lap in laps], laps=tuple(laps))),
        "whole": machine.rival("whole", 7 * unit),
    }
    played = play(machine, both)
    whole, of_laps = played.timings["laps"], played.laps["laps"]
    for lap, share in zip(of_laps, (1, 2, 4), strict=True):
        assert lap.seconds == pytest.approx([share * unit] * len(whole.turns), rel=2e-3)
        assert (lap.turns, lap.iterations) == (whole.turns, whole.iterations)
        assert len(lap.warmup_seconds) == len(whole.warmup_seconds) > 0
    assert whole.seconds == pytest.approx(played.timings["whole"].seconds, rel=2e-3)
    assert played.laps["whole"] == []


def test_the_order_follows_from_the_seed():
    played = []
    for seed in (1, 1, 2):
        machine = Machine()
        play(machine, rivals(machine, a=2e-3, b=2e-3), seed=seed)
        played.append(machine.calls)
    assert played[0] == played[1] != played[2]


def test_a_call_longer_than_all_the_time_is_made_once_after_its_warm_up():
    machine = Machine()
    timings = play(machine, rivals(machine, fast=1e-4, slow=5.0)).timings
    assert len(timings["slow"].seconds) == 1
    assert len(timings["fast"].seconds) > 10
    assert timings["slow"].inside_seconds == pytest.approx(10.0)


def test_a_long_call_known_from_an_earlier_pass_is_not_warmed_up_again():
    machine = Machine()
    slow = machine.rival("slow", 5.0, known_seconds=4.0)
    timing = play(machine, {"slow": slow}).timings["slow"]
    assert (timing.seconds, timing.warmup_seconds, machine.calls) == (
        [pytest.approx(5.0)],
        [],
        ["slow"],
    )


def test_a_machine_that_slows_down_does_not_hold_up_the_run():
    machine = Machine()
    slowing = lambda calls: 1e-3 if calls < 30 else 0.1  # noqa: E731
    both = {name: machine.rival(name, slowing) for name in "ab"}
    timings = play(machine, both).timings
    assert machine.now < PATIENCE * 0.06 * 2 + 5 * 0.1
    assert all(len(one.seconds) >= 1 for one in timings.values())


def test_steady_ratios_end_a_block_before_its_time_is_up():
    machine, bounds = Machine(), BOUNDS._replace(max_time=10.0, precision=0.01)
    timings = play(machine, rivals(machine, a=1e-3, b=2e-3), bounds).timings
    assert len(timings["a"].seconds) == bounds.min_rounds


def test_one_that_fails_is_out_and_the_others_go_on():
    machine = Machine()

    def fails_late(calls):
        if calls > 50:
            raise ZeroDivisionError("late")
        return 2e-3

    def fails_at_once(calls):
        raise MemoryError("at once")

    both = {"late": machine.rival("late", fails_late), "never": machine.rival("never", 2e-3)}
    played = play(machine, {"at once": machine.rival("at once", fails_at_once), **both})
    assert {name: str(error) for name, error in played.errors.items()} == {
        "at once": "at once",
        "late": "late",
    }
    assert played.timings.keys() == {"never"}
    assert len(played.timings["never"].seconds) == pytest.approx(30, abs=1)


def test_nobody_left_is_no_error():
    machine = Machine()
    played = play(machine, {}, anchor=machine.rival("anchor", 1e-3))
    assert (played.timings, played.errors, played.anchor_seconds) == ({}, {}, [])


def test_the_anchor_takes_part_now_and_then_in_every_block():
    machine = Machine()
    for seconds, most in ((1e-3, ANCHORED), (5.0, 1)):
        played = play(machine, rivals(machine, a=seconds), anchor=machine.rival("anchor", 1e-4))
        assert 1 <= len(played.anchor_seconds) <= most
        assert played.anchor_seconds == pytest.approx([1e-4] * len(played.anchor_seconds), 2e-3)
        assert played.timings.keys() == {"a"}


def test_an_interrupt_is_nobodys_error():
    machine = Machine()

    def interrupted(calls):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(machine, {"a": machine.rival("a", interrupted)})


def test_a_clock_that_goes_backwards_is_an_error_and_no_sample():
    machine = Machine()
    backwards = machine.rival("a", lambda calls: -0.1 if calls > 2 else 0.02)
    played = play(machine, {"a": backwards})
    assert isinstance(played.errors["a"], ClockError)
    assert not played.timings


def test_what_is_done_before_a_call_counts_as_time_but_not_as_seconds():
    machine = Machine()

    def before():
        machine.now += 1e-3
        machine.calls.append("before")

    timing = play(machine, {"a": machine.rival("a", 1e-6, before)}).timings["a"]
    assert timing.seconds == pytest.approx([1e-6] * len(timing.seconds), rel=2e-2)
    assert timing.iterations * 1e-3 <= LONGEST_SLICE * 1.01
    assert machine.calls.count("a") == machine.calls.count("before")
    assert len(timing.seconds) * timing.iterations * 1e-3 <= 0.06 * 1.01


@pytest.mark.parametrize(("below", "flushes"), [(1e-3, True), (1e-5, False)])
def test_a_flush_precedes_every_call_for_which_it_matters(below, flushes):
    machine = Machine()

    def empty():
        machine.now += 1e-3
        machine.calls.append("flush")
        return "not an argument"

    a = machine.rival("a", 1e-4, flush=Flush(empty, below))
    timing = play(machine, {"a": a}).timings["a"]
    assert timing.seconds == pytest.approx([1e-4] * len(timing.seconds), rel=2e-3)
    counted = timing.iterations * len(timing.seconds)
    assert machine.calls[-2:] == (["flush", "a"] if flushes else ["a", "a"])
    assert machine.calls.count("flush") >= counted * flushes


def test_pytest_benchmark_lists_what_was_timed_with_the_same_figures():
    added = []
    chance = random.Random(1)
    benchmark = SimpleNamespace(
        name="test_time[a block]", fullname="bench.py::test_time[a block]", extra_info={}
    )

    def make_stats(self, iterations):
        added.append(stats := SimpleNamespace(entry=self, iterations=iterations, data=[]))
        stats.stats = SimpleNamespace(update=stats.data.append)
        return stats

    Fixture = type("Fixture", (SimpleNamespace,), {"_make_stats": make_stats})  # noqa: N806
    stopwatch = Stopwatch(Fixture(**vars(benchmark)), BOUNDS, Machine())
    seconds = [chance.random() for _ in range(9)]
    for head in ("softmax", "gumbel"):
        stopwatch.keep({"head": head, "pass_index": 0}, Timing(seconds, 7, []))
    assert [one.entry.name for one in added] == ["test_time[softmax-0]", "test_time[gumbel-0]"]
    assert {one.entry.fullname.partition("[")[0] for one in added} == {"bench.py::test_time"}
    assert [one.entry.params["head"] for one in added] == ["softmax", "gumbel"]
    assert all(one.data == seconds and one.iterations == 7 for one in added)
