"""What was measured once, and holds for all labels and states, meets its rivals at each."""

import json

from reports.findings.joined import join, scatter
from reports.results import load
from tests.reports.synthetic import cell, timed


def line(head, labels="uniform", state="untrained", any_labels=False, batch=128):
    phase = "train" if state == "untrained" else "predict"
    where = cell(head, phase, 1024, batch, labels=labels, state=state)
    return timed(where, 0, [1e-3, 2e-3, 3e-3]) | {"any_labels": any_labels}


def joined(folder, *lines):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"schema": 2, "run": "run", "options": {}}))
    (folder / "journal.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = load(folder)
    return sorted((c.head, c.phase, c.labels, c.state) for c in join(run, scatter(run)))


def test_a_figure_that_holds_for_all_labels_is_there_for_each(tmp_path):
    found = joined(
        tmp_path / "run",
        line("softmax", any_labels=True),
        line("softmax", state="unsure", any_labels=True),
        line("adaptive"),
        line("adaptive", "zipf:1"),
        line("adaptive", state="unsure"),
        line("adaptive", "zipf:1", state="sure"),
    )
    places = (
        ("train", "uniform", "untrained"),
        ("train", "zipf:1", "untrained"),
        ("predict", "uniform", "unsure"),
        ("predict", "zipf:1", "sure"),
    )
    assert found == sorted((head, *place) for head in ("adaptive", "softmax") for place in places)


def test_other_figures_stay_where_they_are(tmp_path):
    found = joined(
        tmp_path / "run",
        line("softmax"),
        line("gumbel", "zipf:2", any_labels=True, batch=32),
        line("adaptive", "zipf:1"),
    )
    assert found == [
        ("adaptive", "train", "zipf:1", "untrained"),
        ("gumbel", "train", "zipf:2", "untrained"),
        ("softmax", "train", "uniform", "untrained"),
    ]


def test_what_was_measured_is_not_there_twice(tmp_path):
    found = joined(
        tmp_path / "run",
        line("softmax", any_labels=True),
        line("softmax", "zipf:1", any_labels=True),
        line("adaptive", "zipf:1"),
    )
    assert found == [
        ("adaptive", "train", "zipf:1", "untrained"),
        ("softmax", "train", "uniform", "untrained"),
        ("softmax", "train", "zipf:1", "untrained"),
    ]
