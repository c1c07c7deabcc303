"""Jobs on machines: each is done once, a group on one machine, whatever is killed or lost."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cells import Block, Visit
from bench.cluster.fleet import TRIES, Fleet
from bench.cluster.jobs import Job, homes, of_cell, standing
from models import variants
from reports.results import Cell, Entry

MACHINES = ("a", "b", "c")


def cell(batch, head="softmax", classes=8):
    return Cell("isolated", head, "train", classes=classes, batch=batch, features=4)


def block(batch, pass_index=0, heads=("softmax", "gumbel")):
    return Job("time", Block(tuple(cell(batch, head) for head in heads), pass_index))


GRID = [block(batch, index) for index in range(3) for batch in (1, 2, 4, 8)]
SEEDS = [Job("training", variants.config(name, seed=seed))
         for seed in range(3) for name in ("softmax", "gumbel")]  # fmt: skip
JOBS = [*GRID, *SEEDS]
WHOLE = {job.group: [one for one in GRID if one.group == job.group] for job in GRID}


def fleet(jobs=JOBS, bound=None, weight=lambda job: 1.0):
    return Fleet(jobs, weight, bound or {}, WHOLE)


def work(fleet, machines=MACHINES):
    """Let all machines work until nothing is left: who has done what, in order."""
    done = []
    while not fleet.is_done:
        for machine in machines:
            if machine not in fleet.running:
                fleet.begin(machine)
        for machine, job in fleet.running.items():
            fleet.done(machine)
            done.append((machine, job))
    return done


def test_every_job_is_done_once_and_each_group_on_one_machine():
    done = work(fleet())
    assert Counter(job for _, job in done) == Counter(JOBS)
    for group in {job.group for job in JOBS}:
        assert len({machine for machine, job in done if job.group == group}) == 1


def test_jobs_of_a_machine_keep_their_order():
    order = {job: place for place, job in enumerate(JOBS)}
    done = work(fleet(GRID, {job.group: "a" for job in GRID}), ("a",))
    assert [order[job] for _, job in done] == sorted(order[job] for _, job in done)


def test_the_heaviest_group_is_begun_first_and_others_go_to_whoever_is_idle():
    heavy = lambda job: 100.0 if job.group == ("isolated", 8) else 1.0  # noqa: E731
    jobs = fleet(GRID, weight=heavy)
    assert jobs.begin("a").group == ("isolated", 8)
    while job := jobs.begin("b"):
        assert job.group != ("isolated", 8)
        jobs.done("b")
    assert jobs.running.keys() == {"a"}


def test_what_an_earlier_session_began_goes_on_where_it_was():
    done = work(fleet(GRID, {("isolated", 1): "c"}))
    assert {m for m, job in done if job.group == ("isolated", 1)} == {"c"}


def test_a_job_whose_process_dies_is_tried_again_then_cell_by_cell_then_given_up():
    jobs = fleet([block(1)])
    for _ in range(TRIES - 1):
        job = jobs.begin("a")
        assert jobs.crashed("a") == (job, (job,))
    jobs.begin("a")
    _, parts = jobs.crashed("a")
    assert [part.task.visits for part in parts] == [[visit] for visit in job.task.visits]
    for _ in range(TRIES):
        jobs.begin("a")
        _, again = jobs.crashed("a")
    assert again == ()
    assert jobs.begin("a") == parts[1]


def test_a_lost_machine_takes_its_unfinished_groups_with_it_and_no_finished_one():
    jobs = fleet([block(1, 0), block(1, 1), block(2, 0)])
    first, other = jobs.begin("a"), jobs.begin("b")
    jobs.done("a")
    jobs.done("b")
    jobs.begin("a")
    jobs.lost("a")
    done = [job for _, job in work(jobs, ("b",))]
    assert first in done  # measured by the lost machine, and now again
    assert sorted(map(str, done)) == sorted(map(str, WHOLE[first.group]))
    assert other not in done


def test_a_lost_machine_s_finished_trainings_are_not_repeated():
    jobs = Fleet(SEEDS[:2], lambda job: 1.0, {}, WHOLE)
    first = jobs.begin("a")
    jobs.done("a")
    jobs.lost("a")
    assert [job for _, job in work(jobs, ("b",))] == [SEEDS[1]]
    assert first == SEEDS[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["begin", "done", "crash", "lose", "return"]), max_size=120),
       st.randoms(use_true_random=False))  # fmt: skip
def test_whatever_happens_every_cell_is_measured_in_the_end_and_stands_once(events, random):
    jobs, alive, written = fleet(GRID), list(MACHINES), []

    def end(machine):
        job = jobs.running[machine]
        jobs.done(machine)
        written.extend(
            Entry("time", "skipped", v.cell, v.pass_index, "", None, 1, machine)
            for v in job.task.visits
        )

    for event in events:
        idle = [machine for machine in alive if machine not in jobs.running]
        busy = list(jobs.running)
        if event == "begin" and idle:
            jobs.begin(random.choice(idle))
        elif event == "done" and busy:
            end(random.choice(busy))
        elif event == "crash" and busy:
            machine = random.choice(busy)
            if jobs.attempt(jobs.running[machine]) < TRIES:
                jobs.crashed(machine)
        elif event == "lose" and len(alive) > 1:
            machine = random.choice(alive)
            jobs.lost(machine)
            alive.remove(machine)
        elif event == "return":
            alive = list(MACHINES)
    while not jobs.is_done:
        for machine in alive:
            if machine not in jobs.running:
                jobs.begin(machine)
        for machine in jobs.running:
            end(machine)
    wanted = {visit for job in GRID for visit in job.task.visits}
    stand = Counter(Visit(entry.cell, entry.pass_index) for entry in standing(written, {}))
    assert stand.keys() == wanted
    homed = homes(written)
    for group in {of_cell(visit.cell) for visit in wanted}:
        lines = [e for e in written if of_cell(e.cell) == group and e.machine == homed[group]]
        assert {e.machine for e in standing(lines, {})} == {homed[group]}


def test_of_a_group_that_moved_nothing_stands_until_its_new_machine_has_measured():
    old = [Entry("time", "skipped", cell(1), i, "", None, 1, "a") for i in range(2)]
    new = Entry("time", "skipped", cell(1), 0, "", None, 2, "b")
    moved = {("isolated", 1): "a"}
    assert standing(old, {}) == old
    assert standing(old, moved) == []
    assert standing([*old, new], moved) == [new]


def test_what_one_machine_measures_stands_as_it_is():
    entries = [Entry("time", "skipped", cell(b), 0, "", None) for b in (1, 2)]
    assert standing(entries, {}) == entries


@pytest.mark.parametrize("other", [cell(1, "gumbel"), cell(1, classes=64)])
def test_rivals_and_other_class_counts_are_of_one_group(other):
    assert of_cell(other) == of_cell(cell(1))
