"""The duet: who plays when, for how long, and on which core."""

import math
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bench.versus import duet
from bench.versus.duet import Cell, Stage, perform
from bench.versus.process import Revision

CELLS = [Cell(name, "train", 16, 4, 8, "cpu") for name in ("first", "second")]


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


class Fake:
    """A player that takes as long as it is told to, on a wound clock."""

    start_seconds = 1

    def __init__(self, name, clock, log):
        self.revision, self.clock, self.log = Revision(name, Path()), clock, log
        self.cost = {"old": 1e-3, "new": 1.1e-3}[name]

    def names(self):
        self.clock.seconds += self.start_seconds
        return ["first", "second"]

    def build(self, cell):
        self.log.append(("build", self.revision.name, cell["head"], cell["seed"]))
        return self.cost

    def ask_for(self, cell):
        self.log.append(("rehearse", self.revision.name, cell["head"]))

    def built(self):
        return self.cost

    def play(self, calls, lead):
        self.log.append(("play", self.revision.name, calls, lead))
        self.clock.seconds += calls * self.cost
        return calls * self.cost


@pytest.fixture
def stage(monkeypatch):
    """Plays fakes: the clock, and all that was asked of them."""
    clock, log = Clock(), []

    @contextmanager
    def fake(threads):
        @contextmanager
        def player(revision, core):
            log.append(("start", revision.name, threads, core))
            yield Fake(revision.name, clock, log)

        yield player

    monkeypatch.setattr(duet, "nest", fake)

    def play(seconds):
        sides = Revision("old", Path()), Revision("new", Path())
        return perform(*sides, CELLS, seconds, Stage(1, (5, 7)), seed=0, now=clock)

    return play, clock, log


def test_both_sides_play_strictly_in_turns_with_the_same_weights_on_the_same_core(stage):
    play, _, log = stage
    play(60)
    turns = [entry[1] for entry in log if entry[0] == "play"]
    builds = [entry for entry in log if entry[0] == "build"]
    for (_, a, *same), (_, b, *other) in zip(builds[::2], builds[1::2], strict=True):
        assert {a, b} == {"old", "new"}
        assert same == other
    assert all({a, b} == {"old", "new"} for a, b in zip(turns[::2], turns[1::2], strict=True))
    starts = [entry[2:] for entry in log if entry[0] == "start"]
    assert starts[::2] == starts[1::2]
    assert {core for _, core in starts[2:]} == {5, 7}


def test_the_time_is_kept_and_shared_alike(stage):
    play, clock, _ = stage
    played = play(60)
    assert clock.seconds == pytest.approx(60, rel=0.01)
    counts = [len(pair) for pairs in played.blocks.values() for pair in pairs]
    assert len(counts) == 2 * 14
    assert max(counts) - min(counts) <= 0.02 * max(counts)


def test_more_time_is_more_pairs(stage):
    play, _, _ = stage
    assert {len(pairs) for pairs in play(200).blocks.values()} == {50}


def test_where_starting_takes_longer_pairs_do(stage, monkeypatch):
    play, _, _ = stage
    monkeypatch.setattr(Fake, "start_seconds", 5)
    assert {len(pairs) for pairs in play(200).blocks.values()} == {10}


def test_either_side_is_started_first(stage):
    play, _, log = stage
    play(200)
    firsts = [entry[1] for entry in log if entry[0] == "start"][::2]
    assert 10 < firsts.count("old") < 40


def test_too_little_time_still_plays_everything_once(stage):
    play, _, _ = stage
    assert [[len(pair) for pair in pairs] for pairs in play(0.1).blocks.values()] == [[1], [1]]


def test_what_is_compiled_is_compiled_before_the_first_pair_and_on_any_core(stage):
    play, _, log = stage
    play(0.1)
    assert sorted(log[:2]) == [("start", "new", 1, None), ("start", "old", 1, None)]
    rehearsed = [("rehearse", side, cell.head) for cell in CELLS for side in ("old", "new")]
    assert log[2:6] == rehearsed
    assert {entry[0] for entry in log[6:]} == {"start", "build", "play"}


def test_a_block_is_the_logarithm_of_new_over_old(stage):
    play, _, _ = stage
    blocks = np.concatenate([pair for pairs in play(60).blocks.values() for pair in pairs])
    np.testing.assert_allclose(blocks, math.log(1.1))


def test_slices_are_short_and_begin_with_calls_that_do_not_count(stage):
    play, _, log = stage
    play(60)
    assert {entry[2:] for entry in log if entry[0] == "play"} == {(3, 0)}
