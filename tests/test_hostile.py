"""Whatever a results folder holds: report, compare, advise and resume answer, and never with a
traceback.

`HOSTILE_EXAMPLES=5000 pytest tests/test_hostile.py` tries as many instead of a few.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bench.cells import SWEEPS
from bench.options import Plan
from bench.resume import changes, plan_of, require_same_data
from bench.todo import Todo
from reports import __main__ as report
from reports import advise, compare
from reports.results import ResultsError, RunFolder
from tests.reports import synthetic

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "6"))

DEEP = "\ue000 deep \ue000"
"""Stands for lists in lists: JSON's own writer refuses to nest so far."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**7, 2**31, 2**53 - 1, 2**53, 2**63, 10**400, -(10**400),
    0.0, -0.0, 0.5, 1e-9, 1e-308, 5e-324, 1e9, 1e30, 1e300, 1e308, -1e308,
    math.nan, math.inf, -math.inf,
    "", " ", "softmax", "cpu", "cuda", "cuda:7", "bfloat16", "a\x00b", "\ud800", "<b>&amp;", "$x^{",
    "\u202e", "x" * 100_000, "12", "é", "latest", "../..",
    [], [0], [0.0, 0.0], [1e308, 1e308], [-1], [1e-3, 0.0], ["a"], [[]], [[[0]]], [None], [1] * 300,
    {}, {"a": 1}, {"": {}}, DEEP,
)  # fmt: skip

ABSENT = object()


def base() -> dict[str, list[Any]]:
    """A small run with every kind of record: file -> its JSON objects."""
    cells = [
        synthetic.cell(head, phase, n, 32)
        for head in ("softmax", "hierarchical")
        for phase in ("train", "predict")
        for n in (16, 256, 4096)
    ]
    twice = [cell | {"replica": 1} for cell in cells if cell["head"] == "softmax"]
    inside = [
        synthetic.cell(head, "train", n, 32, scope="in-model", features=250)
        for head in ("softmax", "hierarchical")
        for n in (100, 1000)
    ]
    fed = [
        synthetic.cell("softmax", "train", 100, 32, scope="pipeline", features=250, pipeline=name)
        for name in ("published-style", "ours")
    ]
    draw = random.Random(0)
    lines = [
        synthetic.timed(cell, index, [1e-4 * (1 + draw.random()) for _ in range(6)])
        for index in range(2)
        for cell in (*cells, *twice, *inside, *fed)
    ]
    lines += [synthetic.remembered(cell) for cell in (*cells, *inside)]
    lines += [synthetic.split(cell, i, 0.3, steps=4) for cell in inside for i in range(2)]
    turns = {name: [1e-4, 1.1e-4, 1.2e-4] for name in ("exact", "greedy", "all")}
    race = {
        "seconds": turns,
        "scores": {"exact": 30.0, "greedy": 8.0, "all": 255.0},
        "samples": 100,
        "misses": 10,
        "right": 50,
    }
    lines.append(
        {
            "kind": "search",
            "status": "measured",
            "cell": synthetic.cell("hierarchical", "predict", 256, 32),
            "pass": 0,
            "untrained": race,
            "trained": copy.deepcopy(race),
        }
    )
    lines.append(synthetic.missing(synthetic.cell("adaptive", "train", 2**20, 32), "failed", "x"))
    plan = Plan("quick", SWEEPS["quick"], seed=0, device="cpu", threads=2, data=None).dump()
    facts = {
        "schema": 2,
        "run": "run",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:14:00+00:00",
        "sweep": "quick",
        "seed": 0,
        "passes": 2,
        "planned": 100,
        "options": plan,
        "machine": {
            "cpu": "CPU",
            "cores": 2,
            "threads": 2,
            "torch": "2.11.0",
            "memory_bytes": 25_000_000_000,
            "copy_bytes_per_second": 1e10,
            "copy_bytes_per_second_low": 9e9,
            "copy_bytes_per_second_high": 1.1e10,
            "cache_copy_bytes_per_second": 5e10,
            "peak_multiply_adds_per_second": 5e10,
        },
        "dataset": synthetic.training("softmax")["dataset"],
        "sessions": [{"started": "2026-01-01T00:00:00+00:00"}, {"changed": {"revision": "b"}}],
        "wall_seconds": 100.0,
        "measured_seconds": 50.0,
        "others_busy": 0.2,
        "stolen": 0.1,
        "swapped_bytes": 10,
        "conditions": [{"seconds": 0.0, "cpu_mhz": 3000.0}],
        "throttled": "clocks fell",
        "harness_seconds": 1e-7,
    }
    trainings = [
        synthetic.training("softmax", seed=0, epochs=2, classes=4),
        synthetic.training("softmax", seed=1, epochs=2, classes=4),
        synthetic.training(
            *("hierarchical", 0, 0.2), epochs=2, classes=4,
            greedy_misses=9, head_multiply_adds=1e5, variant="hierarchical-tuned",
        ),
        synthetic.training("gumbel-normal", accuracy=0.2, epochs=2, classes=4),
    ]  # fmt: skip
    return {"run": [facts], "journal": lines, "training": trainings}


BASE = base()


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every field, and of the first entry of every list."""
    found = [here] if here else []
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value[:1])
        for name, one in inner:
            found += places(one, (*here, name))
    return found


FIELDS = sorted(
    {
        (file, path)
        for file, records in BASE.items()
        for record in records
        for path in places(record)
    },
    key=repr,
)


def put(record: Any, path: tuple[Any, ...], value: Any) -> None:
    """Set or delete what lies at `path`, where there is such a place."""
    *way, last = path
    for step in way:
        try:
            record = record[step]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(record, dict) and value is ABSENT:
        record.pop(last, None)
    elif isinstance(record, dict) or (isinstance(record, list) and len(record) > (last or 0)):
        record[last] = None if value is ABSENT else copy.deepcopy(value)


def write(folder: Path, run: dict[str, list[Any]], depth: int) -> Path:
    """The run as files, as damaged as it is."""

    def dumps(record: Any) -> str:
        return json.dumps(record).replace(json.dumps(DEEP), "[" * depth + "]" * depth)

    (folder / "training").mkdir(parents=True)
    (folder / "run.json").write_text(dumps(run["run"][0]))
    (folder / "journal.jsonl").write_text("".join(dumps(line) + "\n" for line in run["journal"]))
    for index, record in enumerate(run["training"]):
        (folder / "training" / f"{index}.json").write_text(dumps(record))
    return folder


def answers(folder: Path, other: Path, output: Path) -> None:
    """Have all that reads a run read it; a traceback goes through."""
    run, size = str(folder), ["--classes", "500", "--memory", "1GiB"]
    report.main([run, "--output", str(output)])
    report.main([run, "--output", str(output), "--export", "bmf"])
    report.main([run, "--output", str(output), "--export", "csv"])
    compare.main([run, str(other)])
    compare.main([str(other), run, "--relative"])
    advise.main([*size, "--run", run])
    advise.main([*size, "--run", run, "--phase", "predict"])
    advise.main(["--check", str(other), run])
    resumed(folder)


def resumed(folder: Path) -> None:
    """Take the run up as far as measuring, or refuse to in one line."""
    run = RunFolder(folder)
    try:
        plan = plan_of(run, lambda name: None)
        facts = run.read_facts()
        require_same_data(run, facts, BASE["run"][0]["dataset"])
        changes(run, facts, BASE["run"][0]["machine"])
        Todo(plan, run, None, run.journal.entries()).progress()
    except ResultsError as error:
        refused = str(error)
        assert len(refused.splitlines()) == 1


def everywhere(**values: Any) -> list[tuple[tuple[str, tuple[Any, ...]], Any, bool]]:
    """Changes of every record: `file__field__field` -> value."""
    return [
        ((name.split("__")[0], tuple(name.split("__")[1:])), value, True)
        for name, value in values.items()
    ]


NO_TIME = {"journal__seconds": [0.0] * 6, "journal__parts__head": [0.0] * 4}
NO_BYTES = {"journal__peak_bytes": 0, "journal__parameter_bytes": 0, "journal__optimizer_bytes": 0}

change = st.tuples(st.sampled_from(FIELDS), st.sampled_from((*VALUES, ABSENT)), st.booleans())


@settings(
    max_examples=EXAMPLES,
    derandomize="HOSTILE_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example(everywhere(**NO_TIME, **NO_BYTES, journal__trained__seconds__greedy=[0.0] * 3), 30)
@example(everywhere(journal__peak_bytes=0, training__final__confusion=[[0] * 4] * 4), 30)
@example(everywhere(training__config__batch_size=[32], run__machine__cores=10**400), 900)
@example(everywhere(run__options__sweep=DEEP, journal__cell__classes=1), 900)
@example(everywhere(journal__seconds=[1e308], training__final__confusion=[]), 30)
@given(changed=st.lists(change, min_size=1, max_size=4), depth=st.sampled_from((30, 900, 10**5)))
def test_no_value_in_any_field_ends_in_a_traceback(
    changed: list[tuple[tuple[str, tuple[Any, ...]], Any, bool]], depth: int
) -> None:
    run = copy.deepcopy(BASE)
    chance = random.Random(len(changed))
    for (file, path), value, everywhere in changed:
        for record in run[file] if everywhere else [chance.choice(run[file])]:
            put(record, path, value)
    with tempfile.TemporaryDirectory() as there:
        folder, other = Path(there, "run"), Path(there, "other")
        answers(write(folder, run, depth), write(other, BASE, depth), Path(there))


@pytest.mark.parametrize("file", ["run.json", "journal.jsonl", "training/0.json"])
def test_a_file_of_anything_else_ends_in_no_traceback(tmp_path: Path, file: str) -> None:
    for index, content in enumerate((b"\xff\x00", b"[" * 10**5, b'{"a": 1}\n' * 3)):
        folder = write(tmp_path / str(index), BASE, 1)
        (folder / file).write_bytes(content)
        answers(folder, folder, tmp_path)
