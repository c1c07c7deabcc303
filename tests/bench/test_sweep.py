"""A run on a cluster writes what one on a single machine writes, whatever is killed or lost.

The machines are played by this process; `test_cluster.py` has real ones.
"""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from bench import resume
from bench.cells import SWEEPS
from bench.cluster import worker
from bench.cluster.fleet import TRIES
from bench.cluster.jobs import Job, homes, of_cell, standing
from bench.cluster.nodes import ClusterError, Ended
from bench.cluster.sweep import Sweep, moved
from bench.items import left_of
from bench.measure.stopwatch import Bounds
from bench.options import Plan
from bench.session import Session
from bench.todo import Todo
from reports.results import ResultsError, RunFolder, load

PLAN = Plan(
    "quick",
    replace(SWEEPS["quick"], heads=("softmax",), classes=(4, 8), batches=(2, 4), passes=2,
            phases=("train",), model_classes=(4,), trained=("softmax",), epochs=1, seeds=2,
            train_images=100),
    seed=0, device="cpu", threads=1, data=None,
)  # fmt: skip
BOUNDS = Bounds(max_time=0.001, min_time=0.0, min_rounds=2)
MISSING = "these tests have none"


class Screen:
    """A display that remembers what it says."""

    def __init__(self):
        self.said = []

    def say(self, line, style=""):
        self.said.append(line)

    def running(self, what, weight=0.0):
        pass


class Played:
    """Machines that work one after the other, in this process.

    `fate` says of each job what becomes of it: "well", "crash", "trouble", "lose" the machine.
    """

    def __init__(self, *names, fate=lambda machine, job: "well"):
        self.names, self._fate, self._given = list(names), fate, {}

    def machines(self):
        return dict.fromkeys(self.names)

    def begin(self, machine, work, *given):
        assert machine not in self._given, "one job at a time"
        self._given[machine] = work, given

    def forget(self, machine):
        self._given.pop(machine, None)

    def wait(self):
        for machine in [name for name in self._given if name in self.names]:
            work, given = self._given.pop(machine)
            order = given[0] if isinstance(given[0], worker.Order) else None
            match "well" if order is None else self._fate(machine, order.job):
                case "well":
                    yield Ended(machine, work(*given), "")
                case "crash":
                    yield Ended(machine, None, "WorkerCrashedError", blamed=True)
                case "trouble":
                    yield Ended(machine, None, "RaySystemError")
                case "lose":
                    self.names.remove(machine)
                    yield Ended(machine, None, "NodeDiedError")


class Cluster:
    """A run in `path`, its sessions on played machines."""

    def __init__(self, path, dataset):
        path.mkdir()
        self.run, self.dataset = RunFolder(path), dataset

    def session(self, machines):
        first = not (self.run.path / "run.json").exists()
        gone = {} if first else moved(PLAN, self.run, self.dataset, machines.machines())
        session = Session(PLAN, self.run, self.dataset, Screen(), moved=gone)
        if first:
            session.logbook.open(session.todo.planned, self.dataset, here=False)
        else:
            session.logbook.reopen(here=False)
        sweep = Sweep(session, machines)
        sweep.meet()
        tasks = left_of(session.todo)
        sweep.begin(tasks, BOUNDS)
        return session, sweep, tasks

    def carry_out(self, machines, at_most=None):
        """A whole session, or one whose driver dies after so many tasks."""
        session, sweep, tasks = self.session(machines)
        outcomes = [sweep.outcomes(*task) for task in tasks[:at_most]]
        if at_most is None:
            sweep.finish()
            sweep.close()
            session.logbook.close(session.left())
        return session, outcomes

    @property
    def lines(self):
        return self.run.journal.entries()

    @property
    def attempts(self):
        return list(map(json.loads, self.run.attempts.read_text().splitlines()))


def planned(cluster):
    todo = Todo(PLAN, cluster.run, cluster.dataset, [])
    jobs = [Job(*one) for one in left_of(todo)]
    visits = {
        ("search" if job.kind == "races" else job.kind, visit.cell, visit.pass_index)
        for job in jobs
        for visit in getattr(job.task, "visits", [job.task])
        if hasattr(visit, "pass_index")
    }
    return visits, {(one.variant, one.seed, "measured") for one in PLAN.trainings()}


def check_complete(cluster):
    """Every planned cell is measured once, each group by one machine; all is trained and traced."""
    visits, trainings = planned(cluster)
    stand = standing(cluster.lines, {})
    assert Counter(e.key for e in stand) == Counter(visits)
    assert {e.status for e in stand} == {"measured"}
    at = homes(cluster.lines)
    assert all(e.machine == at[of_cell(e.cell)] for e in stand)
    found = load(cluster.run.path)
    assert {(t.variant, t.seed, t.status) for t in found.trainings} == trainings
    assert all(t.machine for t in found.trainings)
    assert cluster.run.is_traced("softmax")


FACTS = {"host": "played", "cores": 2, "threads": 1, "timing": "laps"}


@pytest.fixture(scope="module", autouse=True)
def played():
    """What a machine is takes seconds to find out, and is nothing that these tests are about."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "harness_seconds", lambda timer: 1e-7)
        patch.setattr(worker.identity, "describe", lambda device: dict(FACTS))
        patch.setattr(worker.limits, "measure", lambda device, machine, dtypes: {})
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def dataset():
    return PLAN.load_dataset(MISSING)


@pytest.fixture
def cluster(tmp_path, dataset):
    return Cluster(tmp_path / "run", dataset)


@pytest.fixture(scope="module")
def complete(tmp_path_factory, dataset):
    """A run that two machines have completed undisturbed."""
    cluster = Cluster(tmp_path_factory.mktemp("complete") / "run", dataset)
    session, outcomes = cluster.carry_out(Played("a", "b"))
    return cluster, session, outcomes


def test_two_machines_measure_what_one_would_each_cell_once(complete):
    cluster, session, outcomes = complete
    check_complete(cluster)
    assert session.left() == ""
    assert {o.result for several in outcomes for o in several} == {"passed"}
    assert {e.machine for e in cluster.lines} == {"a", "b"}


def test_rounds_are_listed_for_pytest_benchmark_as_the_journal_has_them(complete):
    cluster, _, outcomes = complete
    kept = {
        (tuple(sorted(params.items())), tuple(timing.seconds))
        for several in outcomes
        for outcome in several
        for params, timing in outcome.timings
    }
    times = [e for e in cluster.lines if e.kind == "time"]
    assert sorted(seconds for _, seconds in kept) == sorted(tuple(e.figures.seconds) for e in times)


def test_blocks_have_names_of_their_own(complete):
    cluster, *_ = complete
    blocks = {}
    for entry in cluster.lines:
        if entry.kind == "time":
            blocks.setdefault(entry.figures.block, set()).add(
                (entry.machine, entry.pass_index, of_cell(entry.cell), entry.cell.classes)
            )
    assert all(len(places) == 1 for places in blocks.values())


def test_facts_are_kept_for_each_machine(complete):
    cluster, *_ = complete
    facts = cluster.run.read_facts()
    assert facts["machines"].keys() == {"a", "b"}
    for machine in facts["machines"].values():
        assert machine["machine"]["cores"]
        assert machine["others_busy"] >= 0
    assert facts["finished"]


def test_what_is_read_of_a_run_is_one_machine_s_with_all_trainings(complete):
    cluster, *_ = complete
    first, other = (load(cluster.run.path.with_name(f"run@{name}")) for name in "ab")
    for run in (first, other):
        lines = [e for e in cluster.lines if e.machine == run.machine]
        assert len(run.times) == sum(e.kind == "time" for e in lines)
        assert run.name == f"run@{run.machine}"
        assert len(run.trainings) == 2
        assert {t.machine for t in run.timed} <= {run.machine}
    assert set(first.times["batch"]).isdisjoint(
        set(other.times[other.times["scope"].isin(first.times["scope"])]["batch"])
    )


def test_workers_that_crash_at_random_lose_nothing_and_every_attempt_is_noted(cluster):
    draw = random.Random(0)
    crashed = Counter()

    def fate(machine, job):
        if crashed[job] < TRIES - 1 and draw.random() < 0.4:
            crashed[job] += 1
            return "crash"
        return "well"

    cluster.carry_out(Played("a", "b", fate=fate))
    check_complete(cluster)
    events = Counter(line["event"] for line in cluster.attempts)
    assert events["lost"] == crashed.total() > 0
    assert events["begun"] == events["lost"] + events["passed"]


def test_what_always_kills_its_process_is_given_up_and_the_rest_is_measured(cluster):
    session, _ = cluster.carry_out(
        Played("a", "b", fate=lambda machine, job: "crash" if job.kind == "memory" else "well")
    )
    status = {(e.kind, e.status) for e in cluster.lines}
    assert status >= {("memory", "failed"), ("time", "measured")}
    assert not {("memory", "measured"), ("time", "failed")} & status
    assert any("probably as the memory ran out" in e.reason for e in cluster.lines)
    assert session.left() == ""


def test_troubles_of_the_cluster_are_not_blamed_on_what_was_measured(cluster):
    troubles = Counter()

    def fate(machine, job):
        troubles[job] += 1
        return "trouble" if troubles[job] <= 2 * TRIES else "well"

    cluster.carry_out(Played("a", fate=fate))
    check_complete(cluster)


def test_a_block_that_kills_its_process_is_measured_cell_by_cell(cluster):
    cluster.carry_out(Played("a", fate=lambda machine, job: "crash" if job.parts else "well"))
    check_complete(cluster)


def test_a_lost_machine_s_groups_are_measured_anew_and_figures_do_not_mix(cluster):
    seen = Counter()

    def fate(machine, job):
        seen[machine] += 1
        return "lose" if machine == "b" and seen["b"] == 5 else "well"

    session, _ = cluster.carry_out(Played("a", "b", fate=fate))
    check_complete(cluster)
    assert session.left() == ""
    assert {e.machine for e in standing(cluster.lines, {})} == {"a"}


@pytest.mark.parametrize("machines", [("a", "b"), ("a",), ("c", "d")])
def test_after_its_driver_has_died_a_run_goes_on_on_these_machines_or_others(cluster, machines):
    cluster.carry_out(Played("a", "b"), at_most=7)
    assert cluster.lines
    session, _ = cluster.carry_out(Played(*machines))
    check_complete(cluster)
    assert session.left() == ""
    assert {e.machine for e in standing(cluster.lines, {})} <= {"a", "b", *machines}


def test_a_machine_that_is_not_what_it_was_ends_the_session_with_a_line(cluster, monkeypatch):
    cluster.carry_out(Played("a"), at_most=1)
    monkeypatch.setattr(worker.identity, "describe", lambda device: FACTS | {"cores": 77})
    with pytest.raises(ResultsError, match=r"on a: .*another cores.*not 77"):
        cluster.session(Played("a"))


def test_without_any_machine_left_a_run_ends_with_the_line_that_resumes_it(cluster, monkeypatch):
    monkeypatch.setattr("bench.cluster.sweep.PATIENCE", 2)
    with pytest.raises(ClusterError, match="--resume run"):
        cluster.carry_out(Played("a", fate=lambda machine, job: "lose"))


def test_a_run_goes_on_as_it_was_begun_on_a_cluster_or_on_none(complete):
    cluster, *_ = complete
    facts = cluster.run.read_facts()
    resume.require_same_kind(cluster.run, facts, cluster=True)
    with pytest.raises(ResultsError, match="by a, b: resume it with --cluster"):
        resume.require_same_kind(cluster.run, facts, cluster=False)
    with pytest.raises(ResultsError, match="without --cluster"):
        resume.require_same_kind(cluster.run, {"machine": {}}, cluster=True)
