"""A block is carried out: together where it fits, each cell with its own line whatever happens."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import heads
from bench import blocks
from bench.cells import SWEEPS, Block
from bench.items import label
from bench.measure import memory, subject
from bench.measure.stopwatch import Bounds
from bench.measure.subject import Subjects, packed
from bench.measure.timing import Timed
from bench.measure.workload import Workload
from bench.options import Plan
from bench.session import ATTEMPTS, Session
from reports.results import Cell, RunFolder

CELL = Cell("isolated", "softmax", "train", classes=8, batch=2, features=4)
RIVALS = (CELL, replace(CELL, head="hierarchical"), replace(CELL, head="gumbel"))
BLOCK = Block((*RIVALS, replace(CELL, replica=1)), 0)


class Lines:
    def __init__(self):
        self.said = []

    def say(self, line, style=""):
        self.said.append(line)


class Watch:
    """Keeps what pytest-benchmark would."""

    bounds = Bounds(max_time=0.004, min_time=1e-4)

    def __init__(self):
        self.timer, self.kept = time.perf_counter, []

    def keep(self, params, timing):
        self.kept.append((params["head"], list(timing.seconds)))


def open_session(path):
    sweep = replace(SWEEPS["quick"], heads=("softmax",), classes=(8,), batches=(2,), trained=())
    plan = Plan("quick", sweep, seed=0, device="cpu", threads=1, data="")
    session = Session(plan, RunFolder(path), None, Lines())
    session.logbook.open(session.todo.planned, None)
    return session


@pytest.fixture
def session(tmp_path, known_machine):
    threads = torch.get_num_threads()
    yield open_session(tmp_path)
    torch.set_num_threads(threads)


def lines(session):
    return {entry.cell: entry for entry in session.run.journal.entries()}


def test_rivals_share_a_block_its_anchor_and_turns(session):
    watch = Watch()
    blocks.measure(session, watch, BLOCK)
    found = lines(session)
    assert found.keys() == set(BLOCK.cells)
    times = [entry.figures for entry in found.values()]
    assert {one.block for one in times} == {"1.1"}
    assert len({one.anchor_seconds for one in times}) == 1
    assert times[0].anchor_seconds
    shared = set.intersection(*(set(one.turns) for one in times))
    assert 0 in shared
    assert all(one.minor_faults is not None and one.system_seconds is not None for one in times)
    assert [head for head, _ in watch.kept] == [cell.head for cell in found]
    assert [seconds for _, seconds in watch.kept] == [list(one.seconds) for one in times]


def test_phases_are_laps_of_the_step_that_they_are_parts_of(session):
    phases = ("forward", "backward", "step", "train")
    cells = tuple(replace(cell, phase=phase) for cell in RIVALS for phase in phases)
    watch = Watch()
    blocks.measure(session, watch, Block(cells, 0))
    found = {cell: entry.figures for cell, entry in lines(session).items()}
    assert found.keys() == set(cells)
    assert len(watch.kept) == len(cells)
    for rival in RIVALS:
        parts, whole = [found[replace(rival, phase=p)] for p in phases[:3]], found[rival]
        assert np.sum([one.seconds for one in parts], axis=0) == pytest.approx(whole.seconds)
        assert {(one.block, one.turns) for one in parts} == {(whole.block, whole.turns)}
        counted = [one.multiply_adds for one in parts]
        assert sum(counted) == whole.multiply_adds > max(counted)


def test_a_phase_may_be_wanted_without_its_step(session):
    cell = replace(CELL, phase="backward")
    blocks.measure(session, Watch(), Block((cell,), 0))
    assert lines(session).keys() == {cell}


def test_blocks_have_names_of_their_own(session):
    for index in range(2):
        blocks.measure(session, Watch(), replace(BLOCK, pass_index=index))
    assert {e.figures.block for e in session.run.journal.entries()} == {"1.1", "1.2"}


@pytest.mark.parametrize("when", ["built", "called"])
def test_a_rival_that_fails_leaves_the_others_their_block(session, monkeypatch, when):
    made = Workload.rival

    def broken(self, phase, *others):
        if type(self.module) is not type(heads.build("hierarchical", 4, 8)):
            return made(self, phase, *others)
        if when == "built":
            raise torch.OutOfMemoryError("no room")
        calls = iter(range(5))
        return made(self, phase)._replace(timed=subject_that_fails(calls))

    def subject_that_fails(calls):
        def call():
            if next(calls, None) is None:
                raise ZeroDivisionError("in the sixth call")

        return Timed(call)

    monkeypatch.setattr(Workload, "rival", broken)
    watch = Watch()
    if when == "built":
        blocks.measure(session, watch, BLOCK)
    else:
        with pytest.raises(ZeroDivisionError):
            blocks.measure(session, watch, BLOCK)
    found = lines(session)
    status = {cell.head: entry.status for cell, entry in found.items()}
    expected = "out-of-memory" if when == "built" else "failed"
    assert status == {"softmax": "measured", "gumbel": "measured", "hierarchical": expected}
    assert "hierarchical" not in dict(watch.kept)


def test_a_rival_that_cannot_even_be_looked_at_leaves_the_others_their_block(session, monkeypatch):
    known = memory.build_module

    def broken(cell):
        if cell.head == "gumbel":
            raise ZeroDivisionError("no such head")
        return known(cell)

    monkeypatch.setattr(memory, "build_module", broken)
    with pytest.raises(ZeroDivisionError):
        blocks.measure(session, Watch(), BLOCK)
    assert {cell.head: entry.status for cell, entry in lines(session).items()} == {
        "softmax": "measured",
        "hierarchical": "measured",
        "gumbel": "failed",
    }


def test_a_block_of_which_nothing_fits_is_skipped(session, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100)
    with pytest.raises(pytest.skip.Exception, match="GiB are free on cpu"):
        blocks.measure(session, Watch(), BLOCK)
    assert {entry.status for entry in lines(session).values()} == {"skipped"}


def test_what_does_not_fit_together_is_split_and_says_so(session, monkeypatch):
    monkeypatch.setattr(subject, "needed", lambda cell: 40)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100)
    monkeypatch.setattr(memory, "why_it_cannot_fit", lambda cell, free: "")
    blocks.measure(session, Watch(), BLOCK)
    named = {}
    for cell, entry in lines(session).items():
        named.setdefault(entry.figures.block, []).append((cell.head, cell.replica))
    assert list(named.values()) == [
        [("softmax", 0), ("softmax", 1)],
        [("hierarchical", 0), ("gumbel", 0)],
    ]


def test_parts_keep_the_order_and_the_room_and_lose_nobody():
    items = list(range(7))
    needs = [5, 1, 1, 1, 9, 2, 2]
    parts = packed(items, needs, room=4)
    assert [one for part in parts for one in part] == items
    assert all(len(p) == 1 or sum(needs[i] for i in p) <= 4 for p in parts)
    assert parts == [[0], [1, 2, 3], [4], [5, 6]]


def test_heads_are_built_once_for_all_phases_of_the_same_size(monkeypatch):
    built = []
    monkeypatch.setattr(subject, "Workload", lambda cell: built.append(cell.head) or object())
    monkeypatch.setattr(subject, "acquaint", lambda cell: None)
    subjects = Subjects()
    for phase in ("forward", "backward", "train"):
        (part,) = subjects.parts([replace(cell, phase=phase) for cell in RIVALS])
        for cell in part:
            subjects.of(cell)
    assert built == [cell.head for cell in RIVALS]
    (part,) = subjects.parts([replace(cell, classes=9) for cell in RIVALS])
    for cell in part:
        subjects.of(cell)
    assert built == 2 * [cell.head for cell in RIVALS]


def attempt(session, what):
    """What `session` tries, up to where the process is killed."""
    for named, cells in session.attempts(BLOCK):
        session.begin_attempt(named)
        if what in [cell.head for cell in cells]:
            return cells
    return ()


def test_a_block_that_kills_the_process_is_measured_cell_by_cell_and_the_culprit_given_up(
    tmp_path, session
):
    for _ in range(ATTEMPTS):
        assert attempt(open_session(tmp_path), "hierarchical") == BLOCK.cells
    for _ in range(ATTEMPTS):
        assert attempt(open_session(tmp_path), "hierarchical") == (RIVALS[1],)
    last = open_session(tmp_path)
    with pytest.raises(Exception, match=rf"killed {ATTEMPTS} times"):
        blocks.measure(last, Watch(), BLOCK)
    found = lines(last)
    assert {cell.head for cell, entry in found.items() if entry.status == "failed"} == {
        "hierarchical"
    }
    assert all(e.status == "measured" for c, e in found.items() if c.head != "hierarchical")
    assert len({entry.figures.block for entry in found.values() if entry.figures}) == 3


def test_a_part_that_is_missing_is_a_smaller_block_of_its_own(session):
    todo = session.todo
    whole = todo.blocks_left()[0]
    for visit in whole.visits[:1]:
        with session.outcome("time", visit) as figures:
            figures |= {"seconds": [1.0], "iterations": 1, "warmup_seconds": []}
    again = Session(session.plan, session.run, None, Lines())
    assert again.todo.blocks_left()[0] == replace(whole, cells=whole.cells[1:])


def test_a_cell_without_time_is_a_line_and_a_pass_without_time_is_named(session, monkeypatch):
    for why in ("pass", "cell"):
        monkeypatch.setattr(session.agenda, "admits", lambda block, why=why: why, raising=False)
        session.plan = replace(session.plan, minutes=1.5)
        with pytest.raises(pytest.skip.Exception, match=r"no time was left of --minutes 1\.5"):
            blocks.measure(session, Watch(), BLOCK)
        if why == "pass":
            assert session.cut == [f"time {label(BLOCK)}"]
            assert not lines(session)
    assert {entry.reason for entry in lines(session).values()} == {
        "no time was left of --minutes 1.5"
    }
    assert lines(session).keys() == set(BLOCK.cells)
    session.logbook.close("", ["time a", "time b", "training softmax seed=1"])
    assert session.run.read_facts()["cut"][0] == "time a"
    assert any("2 blocks were not measured in another pass" in s for s in session.display.said)
    assert any("training softmax seed=1" in s for s in session.display.said)


def test_what_was_cut_is_not_planned_any_more(session):
    todo = session.todo
    left, planned = todo.blocks_left(), todo.planned
    block = next(one for one in left if one.pass_index == 1)
    session.cut.append(f"time {label(block)}")
    cut = Session(session.plan, session.run, None, Lines(), session.cut).todo
    assert cut.blocks_left() == [one for one in left if one != block]
    assert cut.planned == planned - len(block.cells)
