"""Minutes are shared out: rounds give way first, then passes, then trainings, then cells."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bench.budget import (
    FEW_BLOCKS,
    LEAST_DOSE,
    ONCE,
    REPORT_SECONDS,
    Agenda,
    Deadline,
    Need,
    Pace,
    affordable,
    left_out,
    share,
)
from bench.cells import Block
from models import variants
from reports.results import Cell

seconds = st.floats(0.01, 100.0)
needs = st.lists(st.builds(Need, st.integers(0, 4), seconds, seconds), min_size=1, max_size=20)


def spent(needs, shared):
    kept = [need for need in needs if need.pass_index < shared.passes]
    return sum(need.fixed + shared.dose * need.rounds for need in kept)


@given(needs, seconds)
def test_what_is_shared_out_is_there_or_only_the_least_of_the_first_pass_is_left(needs, seconds):
    shared = share(needs, seconds)
    if spent(needs, shared) > seconds * (1 + 1e-9):
        assert shared == (1, LEAST_DOSE)


@given(needs, seconds)
def test_a_pass_is_left_out_only_where_its_least_does_not_fit(needs, seconds):
    shared = share(needs, seconds)
    later = sorted({n.pass_index for n in needs if n.pass_index >= shared.passes})
    if later:
        one_more = shared._replace(passes=later[0] + 1, dose=LEAST_DOSE)
        assert spent(needs, one_more) > seconds * (1 - 1e-9)


@given(needs)
def test_with_time_for_all_nothing_is_cut(needs):
    assert spent(needs, share(needs, 1e6)) == sum(need.fixed + need.rounds for need in needs)


@given(needs, seconds, seconds)
def test_more_time_is_never_less_of_anything(needs, less, more):
    less, more = sorted([less, more])
    assert spent(needs, share(needs, less)) <= spent(needs, share(needs, more)) * (1 + 1e-9)


@given(st.dictionaries(st.integers(), seconds, max_size=20), seconds)
@example({0: 1.0, 1: 0.011953125}, 0.011953125)
def test_as_much_as_can_be_is_done_and_the_dearest_left_out(needs, seconds):
    out = left_out(needs, seconds)
    kept = {name: need for name, need in needs.items() if name not in out}
    assert sum(kept.values()) <= seconds or not kept
    assert all(needs[name] >= max(kept.values(), default=0) for name in out)
    if out:  # the last one out did not fit
        assert sum(kept.values()) + needs[out[-1]] > seconds * (1 - 1e-9)


@given(st.lists(seconds, max_size=10), seconds)
def test_trainings_are_done_in_their_order_as_far_as_the_time_goes(needs, seconds):
    count = affordable(needs, seconds)
    assert sum(needs[:count]) <= seconds
    assert count == len(needs) or sum(needs[: count + 1]) > seconds


def test_the_pace_is_that_of_the_kind_else_of_all_else_as_expected():
    pace = Pace()
    assert pace.of("time") == 1.0
    pace.learn("memory", 2.0, 4.0)
    assert pace.of("time") == 2.0
    pace.learn("time", 2.0, 1.0)
    assert pace.of("time") == 0.5
    assert pace.of("memory") == 2.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def block(classes, pass_index):
    cells = [Cell("isolated", head, "train", classes, 4, 8) for head in ("softmax", "gumbel")]
    return Block(tuple(cells), pass_index)


TRAININGS = [variants.config("softmax", seed=seed) for seed in range(3)]
FIXED, ROUNDS = 1.0, 3.0
"""Seconds of each block: 1 + 2 cells x 3 = 7."""


def play(minutes, slow=1.0, passes=4, sizes=20, guess=1.0, once=0.0):
    """What a session does on a machine that is `slow`, and how long it takes.

    The first block takes `once` seconds more than it will again.
    """
    blocks = [block(2 + k, index) for index in range(passes) for k in range(sizes)]
    clock = Clock()
    clock.now = 5.0  # what a process takes to begin
    tasks = [*(("time", one) for one in blocks), *(("training", one) for one in TRAININGS)]
    pace = Pace()
    for kind, off in (("time", guess), ("training", 1.0)):  # as a session probes it
        pace.learn(kind, 5.0, 5.0 * off * slow)
    agenda = Agenda(
        tasks,
        Deadline(minutes, clock),
        pace,
        ROUNDS,
        lambda task: FIXED if isinstance(task, Block) else 20.0,
    )
    done, cut = [], []
    for kind, task in tasks:
        if isinstance(task, Block):
            if why := agenda.admits(task):
                agenda.forgo()
                cut.append((why, task.pass_index))
                took = 0.0
            else:
                took = slow * (FIXED + 2 * agenda.dose * ROUNDS) + (0.0 if done else once)
                done.append(task.pass_index)
        elif agenda.affordable([task]):
            took = slow * 20.0
            done.append(kind)
        else:
            agenda.forgo()
            cut.append((kind, task.seed))
            took = 0.0
        clock.now += took
        agenda.done(kind, task, took)
    return done, cut, clock.now + REPORT_SECONDS


@pytest.mark.parametrize("slow", [0.5, 1.0, 1.5, 2.5, 4.0])
def test_the_minutes_are_kept_on_fast_and_slow_machines(slow):
    done, cut, took = play(minutes=8, slow=slow)
    assert took <= 8 * 60 * 1.1
    if cut:
        assert took >= 8 * 60 * 0.9
    assert done.count("training") == 3
    assert done.count(0) == 20  # cells are what is cut last


def test_later_passes_go_before_trainings_and_trainings_before_cells():
    done, cut, took = play(minutes=3, slow=3.0)
    assert {why for why, _ in cut} == {"pass", "training"}
    assert done.count(0) == 20
    assert took <= 3 * 60 * 1.3  # it has to be seen first how slow the machine is
    done, cut, _ = play(minutes=1.5, slow=10.0)
    assert ("cell", 0) in cut
    assert done.count("training") == 0


def test_what_some_take_ten_times_as_long_is_in_the_pace():
    pace = Pace()
    for ratio in (1.0, 1.0, 1.0, 10.0):
        pace.learn("time", 2.0, 2.0 * ratio)
    assert pace.of("time") == pytest.approx((3 * 1.0 + ONCE) / 4)
    pace.learn("time", 6.0, 60.0)  # now most of what is known is slow
    assert pace.of("time") == pytest.approx((3 * 2 * 1.0 + 8 * 10.0) / 14)


def test_a_contest_that_is_dear_every_time_is_expected_to_be_dear():
    usual, dear = [block(2 + k, 0) for k in range(9)], [block(50, index) for index in range(3)]
    agenda = Agenda(
        [("time", one) for one in (*usual, *dear)], Deadline(60, Clock()), Pace(), 1.0,
        lambda _: 1.0,
    )  # fmt: skip
    for one in usual:
        agenda.done("time", one, 3.0)
    agenda.done("time", dear[0], 60.0)
    once = agenda.need(dear[1])
    assert once.fixed + once.rounds == pytest.approx(ONCE * 3.0, rel=0.5)
    agenda.done("time", dear[1], 63.0)
    again = agenda.need(dear[2])
    assert again.fixed + again.rounds == pytest.approx(60.0)


@pytest.mark.parametrize("once", [60.0, 120.0])
def test_what_is_compiled_once_is_not_expected_of_every_block(once):
    done, cut, took = play(minutes=8, slow=1.5, once=once)
    assert "cell" not in {why for why, _ in cut}
    assert done.count(0) == done.count(1) == 20
    assert done.count("training") == 3
    assert 8 * 60 * 0.85 <= took <= 8 * 60 * 1.1


def test_without_a_limit_nothing_is_cut():
    done, cut, _ = play(minutes=None, slow=10.0)
    assert not cut
    assert done.count(3) == 20
    assert Deadline(None).left == math.inf


def test_the_minutes_count_from_the_start_of_the_process():
    assert 0 < 60 - REPORT_SECONDS - Deadline(1.0).left < 3_600


def test_a_slow_first_block_does_not_yet_leave_out_cells():
    blocks = [block(2 + k, 0) for k in range(100)]
    clock = Clock()
    agenda = Agenda([("time", b) for b in blocks], Deadline(3, clock), Pace(), 0.1, lambda _: 0.1)
    assert agenda.admits(blocks[0]) == ""
    clock.now = 10.0  # what is loaded only once
    agenda.done("time", blocks[0], 10.0)
    assert agenda.admits(blocks[1]) == ""
    assert agenda.dose == LEAST_DOSE
    assert FEW_BLOCKS > 1


@given(st.floats(0.1, 10.0))
def test_a_block_measured_before_is_expected_to_take_as_long_again(slow):
    assume(slow != 1.0)
    one, other = block(5, 0), block(9, 0)
    agenda = Agenda(
        [("time", one), ("time", other), ("time", replace(one, pass_index=1))],
        Deadline(60, Clock()), Pace(), 1.0, lambda _: 1.0,
    )  # fmt: skip
    agenda.admits(one)
    agenda.done("time", one, 3 * slow)
    need = agenda.need(replace(one, pass_index=1))
    assert need.fixed + need.rounds == pytest.approx(3 * slow)
