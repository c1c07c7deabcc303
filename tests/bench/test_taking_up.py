"""A run is taken up by one process, as it was begun, and is finished when nothing is missing."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import resume
from bench.cells import SWEEPS, Sweep
from bench.logbook import facts_of
from bench.options import FLAGS, MOST_VISITS, OVERRIDES, Plan, contradiction
from bench.todo import Todo
from bench.train.trainings import name_of
from models.data import stand_in
from models.records import begun
from reports.results import Entry, ResultsError, RunFolder
from tests.reports.synthetic import trace

HOLD = """
import sys, time
from pathlib import Path
from reports.results import ResultsError, RunFolder
try:
    held = RunFolder(Path(sys.argv[1])).hold()
except ResultsError as error:
    print(error, flush=True)
else:
    print("held", flush=True)
    time.sleep(60)
"""

TINY = Plan(
    "quick",
    replace(SWEEPS["quick"], heads=("softmax",), classes=(8,), batches=(2,), model_classes=(4,),
            trained=("softmax",)),
    seed=0, device="cpu", threads=1, data=None,
)  # fmt: skip


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def begin(path, plan=TINY, **facts):
    run = RunFolder(path)
    run.write_facts({"started": "2026-01-01T00:00:00+00:00", "options": plan.dump()} | facts)
    return run


def asked(**options):
    return lambda name: options.get(name)


def test_a_second_process_is_told_who_measures_and_a_kill_frees_the_run(tmp_path):
    first, said = holder(tmp_path)
    assert said == "held"
    second, refused = holder(tmp_path)
    assert f"is being measured by process {first.pid} since 20" in refused
    second.wait()
    first.kill()
    first.wait()
    third, said = holder(tmp_path)
    third.kill()
    third.wait()
    assert said == "held"


def test_a_lock_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "running.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ResultsError, match="cannot write"):
        RunFolder(tmp_path / "run").hold()
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    "options",
    [
        {"classes": (10,)},
        {"heads": ("gumbel",)},
        {"trained": ()},
        {"sweep": "full"},
        {"seed": 1},
        {"threads": 2},
        {"jobs": 2},
        {"device": "cuda"},
        {"patience": 3},
        {"passes": 9},
        {"epochs": 0},
    ],
)
def test_options_that_contradict_the_run_are_refused_in_one_line(tmp_path, options):
    with pytest.raises(ResultsError, match="contradicts the run") as refused:
        resume.plan_of(begin(tmp_path), asked(**options))
    (name,) = options
    assert f"--{FLAGS.get(name, name)} " in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_options_that_repeat_the_run_are_taken():
    same = {name: getattr(TINY.sweep, name) for name in OVERRIDES}
    assert contradiction(TINY, asked(sweep="quick", seed=0, jobs=1, **same)) == ""


MACHINE = {"cpu": "A", "cores": 2, "torch": "2.11.0", "threads": 1, "revision": "abc", "host": "a",
           "numba": "0.62.1", "triton": "none", "timing": "laps"}  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        *({"cpu": "B"}, {"torch": "2.12.0"}, {"cores": 64}, {"threads": 8}),
        *({"numba": "none"}, {"triton": "3.6.0"}, {"timing": "loops"}),
    ],
)
def test_figures_of_another_machine_are_refused(tmp_path, other):
    with pytest.raises(ResultsError, match=f"another {next(iter(other))}: .* and not"):
        resume.changes(RunFolder(tmp_path), {"machine": MACHINE}, MACHINE | other)


def test_a_run_that_timed_phases_in_loops_is_refused_in_one_line(tmp_path):
    old = {name: value for name, value in MACHINE.items() if name != "timing"}
    with pytest.raises(ResultsError, match="timed phases in loops") as refused:
        resume.changes(RunFolder(tmp_path), {"machine": old}, MACHINE)
    assert len(str(refused.value).splitlines()) == 1


def test_a_run_that_was_killed_before_it_looked_at_the_machine_goes_on(tmp_path):
    assert resume.changes(RunFolder(tmp_path), {}, MACHINE) == {}


def test_what_may_differ_between_sessions_is_noted_and_what_always_does_is_not():
    now = MACHINE | {"revision": "def", "host": "b", "load_before": 3.0}
    found = resume.changes(RunFolder(Path("run")), {"machine": MACHINE | {"load_before": 0.0}}, now)
    assert found == {"revision": "def", "host": "b"}


def test_other_images_of_the_same_names_and_numbers_are_other_data():
    data = stand_in("a test", per_class=2)
    other = replace(data, train=replace(data.train, images=data.train.images.flip(0)))
    run, facts = RunFolder(Path("run")), {"dataset": json.loads(json.dumps(facts_of(data)))}
    resume.require_same_data(run, facts, facts_of(data))
    with pytest.raises(ResultsError, match="fingerprint"):
        resume.require_same_data(run, facts, facts_of(other))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ({"sweep": None}, "sweep: expected an object"),
        ({"sweep": TINY.sweep.dump() | {"passes": 10**7}}, f"at most {MOST_VISITS:,}"),
        ({"sweep": TINY.sweep.dump() | {"seeds": 10**7}}, f"at most {MOST_VISITS:,}"),
        ({"sweep": TINY.sweep.dump() | {"classes": [[8]]}}, "classes"),
        ({"sweep": TINY.sweep.dump() | {"classes": "8"}}, "classes"),
        ({"sweep": TINY.sweep.dump() | {"heads": ["nope"]}}, "no head called 'nope'"),
        ({"sweep": TINY.sweep.dump() | {"trained": ["nope"]}}, "unknown variant 'nope'"),
        ({"sweep": TINY.sweep.dump() | {"phases": ["lunch"]}}, "phases"),
        ({"sweep": TINY.sweep.dump() | {"pipelines": ["hose"]}}, "no pipeline called 'hose'"),
        ({"sweep": TINY.sweep.dump() | {"later": 1}}, "'later' is not known here"),
        ({"device": "tpu"}, "device: must be cpu"),
        ({"threads": 10**12}, "threads"),
        ({"data": "a\0b"}, "data: expected a folder"),
        ({"later": 1}, "'later' is not known here"),
    ],
)
def test_damaged_options_are_refused_in_one_line(tmp_path, damage, complaint):
    run = begin(tmp_path, options=TINY.dump() | damage)
    with pytest.raises(ResultsError, match=r"the options in its run\.json are damaged") as refused:
        resume.plan_of(run, asked())
    assert complaint in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("options", [None, [], "quick", {}])
def test_missing_options_are_refused_in_one_line(tmp_path, options):
    with pytest.raises(ResultsError, match=r"options in its run\.json are damaged"):
        resume.plan_of(begin(tmp_path, options=options), asked())


@pytest.mark.parametrize("name", SWEEPS)
def test_visits_are_bounded_from_above_without_counting_them_out(name):
    plan = replace(TINY, sweep=SWEEPS[name])
    todo = Todo(plan, RunFolder(Path("run")), None, [])
    assert todo.planned + len(plan.trainings()) <= SWEEPS[name].visits <= MOST_VISITS


def test_a_run_is_complete_when_journal_trainings_and_traces_hold_what_was_planned(tmp_path):
    run, data = RunFolder(tmp_path), stand_in("a test", per_class=2)

    def left():
        return Todo(TINY, run, data, run.journal.entries()).left_in_words

    empty = Todo(TINY, run, data, [])
    planned = [
        ("time" if what == "pipeline" else what, visit)
        for what in ("time", "memory", "split", "search", "pipeline")
        for visit in empty.visits(what)
    ]
    assert left() == f"0 of {len(planned)} cells, 0 of 1 trainings, 0 of 1 traces"
    for kind, visit in planned:
        run.journal.append(Entry(kind, "skipped", visit.cell, visit.pass_index, "a test", None))
    assert left() == f"{len(planned)} of {len(planned)} cells, 0 of 1 trainings, 0 of 1 traces"
    (config,) = TINY.trainings()
    run.write_training(name_of(config), begun(config, data))
    run.checkpoint(name_of(config)).touch()
    assert "0 of 1 trainings" in left()  # it goes on from there
    run.checkpoint(name_of(config)).unlink()
    assert "1 of 1 trainings, 0 of 1 traces" in left()
    run.traces("softmax").mkdir(parents=True)
    whole = json.dumps(trace("softmax"))
    path = run.traces("softmax") / "softmax.cpu.pt.trace.json"
    path.write_text(whole[: len(whole) // 2])
    assert "0 of 1 traces" in left()  # half a trace is none
    path.write_text(whole)
    assert left() == ""


@pytest.mark.parametrize("what", [Sweep, Plan])
def test_every_option_kept_in_run_json_is_checked_when_it_is_read(what):
    assert all("check" in one.metadata for one in what.__dataclass_fields__.values())


def test_a_part_of_the_cells_does_not_finish_a_run_and_a_finished_run_stays_as_it_is(
    headbench, tiny
):
    tiny = (*tiny, "--train", "none", "--heads", "softmax")
    status, output, errors = headbench.run(*tiny, "-k", "test_memory")
    assert status == 0, output + errors
    assert headbench.facts()["finished"] is None
    before = headbench.facts()
    for asked_for, expected in (
        (("--collect-only",), 0),
        (("--classes", "10"), pytest.ExitCode.USAGE_ERROR),
    ):
        status, output, errors = headbench.run("--resume", "latest", *asked_for)
        assert status == expected, output + errors
        assert headbench.facts() == before
    status, output, errors = headbench.run("--resume", "latest", "--benchmark-max-time=0.005")
    assert status == 0, output + errors
    finished = headbench.facts()
    assert finished["finished"]
    assert {line["session"] for line in headbench.journal()} == {1, 2}
    status, output, errors = headbench.run("--resume", "latest")
    assert status == 0, output + errors
    assert "nothing left to measure" in output
    assert headbench.facts() == finished
