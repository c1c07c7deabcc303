"""What the journal accepted can be read again, whatever happened to the process afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import heads
from bench.measure.memory import MemoryUse
from models.costs import TimeSplit
from reports.results import MEMORY, PARTS, PHASES, SCOPES, Cell, Entry, Journal, Race, Time
from reports.results.fields import LARGEST
from reports.results.journal import PLACES, Memory, Search, Split

CELL = Cell("isolated", "softmax", "train", 16, 4, 8)

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)
sizes = st.integers(1, LARGEST)
taken = st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=5).map(np.array)
cells = st.builds(
    lambda scope, pipeline, **more: Cell(scope, pipeline=pipeline * (scope == "pipeline"), **more),
    scope=st.sampled_from(SCOPES),
    pipeline=names,
    head=names,
    phase=st.sampled_from(PHASES),
    classes=st.integers(2, LARGEST),
    batch=sizes,
    features=sizes,
    dtype=names,
    device=names,
    threads=sizes,
    replica=st.integers(0, 1),
)
races = st.builds(
    lambda seconds, scores, right: Race(
        {method: seconds * k for k, method in enumerate(("exact", "greedy", "all"), start=1)},
        dict.fromkeys(("exact", "greedy", "all"), scores),
        100,
        100 - right,
        right,
    ),
    taken,
    st.floats(0, 1e9),
    st.integers(0, 100),
)
figures = {
    "time": st.builds(
        Time,
        seconds=taken,
        iterations=sizes,
        warmup_seconds=taken,
        multiply_adds=st.none() | sizes,
        bytes=st.none() | sizes,
        others_busy=st.none() | st.floats(0, 1),
    ),
    "memory": st.builds(Memory, sizes, sizes, sizes, sizes),
    "split": st.builds(
        Split,
        parts=taken.map(lambda seconds: dict.fromkeys(PARTS, seconds)),
        flops_per_image=st.none() | sizes,
    ),
    "search": st.builds(Search, races, races),
}
entries = st.sampled_from(tuple(figures)).flatmap(
    lambda kind: st.builds(
        Entry, st.just(kind), st.just("measured"), cells, st.integers(0, 10), st.just(""),
        figures[kind],
    )
) | st.builds(
    Entry,
    st.sampled_from(tuple(figures)),
    st.sampled_from(["skipped", "out-of-memory", "failed"]),
    cells,
    st.integers(0, 10),
    st.text(),
    st.none(),
)  # fmt: skip


def placed(entry: Entry) -> Entry:
    """The entry, of a cell that its kind is measured of."""
    scope, phase = PLACES.get(entry.kind, ("isolated", entry.cell.phase))
    if entry.kind == "time":
        return entry
    return replace(entry, cell=replace(entry.cell, scope=scope, phase=phase, pipeline=""))


def plain(entry: Entry) -> dict[str, Any]:
    """The line without the time of day."""
    return entry.dump() | {"written": None}


@given(entry=entries.map(placed))
def test_an_entry_survives_the_round_trip_through_json(entry: Entry) -> None:
    read = Entry.load(json.loads(json.dumps(entry.dump(), allow_nan=False)))
    assert plain(read) == plain(entry)
    assert read.key == entry.key


def test_a_pipeline_that_stood_in_the_place_of_its_head_is_read_as_what_it_was() -> None:
    today = Cell("pipeline", "softmax", "train", 100, 32, 250, pipeline="ours")
    old = today.dump() | {"head": "ours"}
    del old["pipeline"]
    assert Cell.load(old) == Cell.load(today.dump()) == today


@pytest.mark.parametrize("change", [{"scope": "isolated"}, {"pipeline": ""}, {"pipeline": None}])
def test_a_pipeline_has_a_name_and_a_scope_of_its_own(change: dict[str, Any]) -> None:
    today = Cell("pipeline", "softmax", "train", 100, 32, 250, pipeline="ours")
    with pytest.raises(ValueError, match=r"^pipeline: expected"):
        Cell.load(today.dump() | change)


@pytest.mark.parametrize("field", ["scope", "dtype", "device", "threads", "replica"])
def test_what_was_always_written_may_not_be_absent(field: str) -> None:
    line = CELL.dump()
    del line[field]
    with pytest.raises(ValueError, match=field):
        Cell.load(line)


def some(count: int) -> list[Entry]:
    return [
        Entry("time", "measured", CELL, i, "", Time(np.array([1.0 + i]), 1, np.array([])))
        for i in range(count)
    ]


def written(journal: Journal) -> list[int]:
    return [entry.pass_index for entry in journal.entries()]


def test_entries_come_back_in_the_order_they_were_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for entry in some(3):
        journal.append(entry)
    assert list(map(plain, journal.entries())) == list(map(plain, some(3)))


@pytest.mark.parametrize("kept", [1, 10, 60])
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    first, second, third = some(3)
    journal.append(first)
    whole = path.stat().st_size
    journal.append(second)
    with path.open("rb+") as file:
        file.truncate(whole + kept)
    journal.append(third)
    assert written(journal) == [0, 2]


def test_foreign_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append(some(1)[0])
    with path.open("a") as file:
        file.write('not json\n[1]\n{"kind": "time"}\n{"cell": {"head": 1}}\n')
    assert written(journal) == [0]


def test_a_journal_of_nothing_is_empty(tmp_path: Path) -> None:
    assert Journal(tmp_path / "journal.jsonl").entries() == []


def test_a_figure_that_is_not_a_number_never_reaches_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    (entry,) = some(1)
    bad = Time(np.array([float("nan")]), 1, np.array([]))
    with pytest.raises(ValueError, match="not JSON compliant"):
        Journal(path).append(replace(entry, figures=bad))
    assert not path.exists()


def test_both_sides_of_the_format_use_the_same_words() -> None:
    """`reports` may know nothing of what measures, so that the words stand on both sides."""
    assert get_args(heads.Phase) == PHASES
    assert tuple(TimeSplit.__dataclass_fields__) == PARTS
    assert MemoryUse._fields == MEMORY
