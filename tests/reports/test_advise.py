"""The adviser: what it recommends, what the command prints, and how it says no."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reports import advise as command
from reports.findings.adviser import Question, advise, adviser, recommend
from reports.findings.findings import find
from reports.results import load
from tests.reports import synthetic as made

GIB = 2**30


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of two heads, for what is not about the others."""
    path = tmp_path_factory.mktemp("small") / "20260101-000000-small"
    return made.write_run(path, made.journal(("softmax", "hierarchical")))


def ask(known, classes=200_000, batch=128, features=made.FEATURES, **others):
    asked = Question(classes, batch, features, **others)
    rows = advise(known, asked)
    return rows, recommend(known, asked, rows)


@pytest.mark.parametrize("classes", [3_000, 30_000, 150_000, 500_000])
@pytest.mark.parametrize("batch", [32, 64, 128])
def test_the_curves_behind_the_run_lie_in_the_intervals(known, classes, batch):
    rows, _ = ask(known, classes, batch)
    assert {row.head for row in rows} == set(made.HEADS)
    for row in rows:
        assert 1e-6 * made.CURVES[row.head](classes, batch) in row.seconds


@pytest.mark.parametrize("classes", [3_000, 30_000, 150_000])
def test_memory_is_predicted_within_a_few_percent(known, classes):
    rows, _ = ask(known, classes, 64)
    for row in rows:
        stored = made.remembered(made.cell(row.head, "train", classes, 64))
        true = stored["peak_bytes"] + stored["parameter_bytes"] + stored["optimizer_bytes"]
        assert row.memory.estimate == pytest.approx(true, rel=0.05)


def test_the_fastest_is_recommended_and_rows_are_sorted(known):
    rows, said = ask(known)
    seconds = [row.seconds.estimate for row in rows]
    assert seconds == sorted(seconds)
    assert rows[0].head == min(made.HEADS, key=lambda head: made.CURVES[head](200_000, 128))
    assert said[0] == "hierarchical: predicted to be the fastest."


def test_what_does_not_fit_is_not_recommended(known):
    rows, _ = ask(known)
    lean = min(row.memory.high for row in rows)
    rows, said = ask(known, memory=math.ceil(lean))
    fitting = [row.head for row in rows if row.fits == "yes"]
    assert 0 < len(fitting) < len(rows)
    assert said[0].startswith(f"{fitting[0]}: predicted to be the fastest that fits into ")


def test_a_limit_inside_the_interval_may_fit(known):
    costs = known.phases["train"]["softmax"]
    unsure = replace(costs, memory=replace(costs.memory, radius=0.2))
    only = replace(known, phases={"train": {"softmax": unsure}})
    (row,), _ = ask(only)
    (row,), said = ask(only, memory=round(row.memory.estimate))
    assert row.fits == "perhaps"
    assert said[0].startswith("softmax: predicted to be the fastest that may fit into ")


def test_where_nothing_fits_the_leanest_is_named(known):
    rows, said = ask(known, memory=1024)
    leanest = min(rows, key=lambda row: row.memory.estimate)
    assert {row.fits for row in rows} == {"no"}
    assert said[0].startswith(f"No head fits into 1.00 KiB: the leanest, {leanest.head}, needs ")


def test_heads_of_one_cost_are_too_close_to_tell_apart(known):
    costs = known.phases["train"]
    twins = {"train": {"one": costs["softmax"], "other": costs["softmax"]}}
    _, said = ask(replace(known, phases=twins))
    assert "Too close to tell apart from it: other." in said


def test_accuracy_is_told_where_the_run_knows_it(known):
    _, said = ask(known)
    assert said[-1].startswith("Test accuracy of hierarchical in this run: 15.0")
    _, said = ask(replace(known, accuracy={}))
    assert said[-1].startswith("This run did not train hierarchical")


def test_generated_images_tell_no_accuracy(tmp_path):
    dataset = {"name": "generated", "stand_in": True, "reason": "no network"}
    lines = made.journal(("softmax",))
    run = made.write_run(tmp_path / "run", lines, dataset=dataset)
    assert adviser(find(load(run))).accuracy == {}


def test_what_is_not_counted_is_left_out_as_a_peer(tmp_path):
    lines = made.journal(("softmax", "adaptive"))
    for line in lines:
        if line["cell"]["head"] == "adaptive" and line["kind"] == "time":
            line["multiply_adds"] = line["bytes"] = None
    known = adviser(find(load(made.write_run(tmp_path / "run", lines))))
    assert set(known.phases["train"]) == {"softmax"}
    assert known.left_out == {"adaptive": "a peer"}


def test_what_has_memory_alone_is_left_out_as_not_timed(tmp_path):
    lines = [
        line
        for line in made.journal(("softmax", "adaptive"))
        if line["kind"] == "memory" or line["cell"]["head"] == "softmax"
    ]
    known = adviser(find(load(made.write_run(tmp_path / "run", lines))))
    assert known.left_out == {"adaptive": "not timed"}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    lines = [*made.journal(), *made.wider((64, 512))]
    return made.write_run(tmp_path_factory.mktemp("widths") / "20260101-000000-widths", lines)


def test_a_run_of_several_widths_predicts_between_them(known, several):
    wide = adviser(find(load(several)))
    for classes, features in ((3_000, 512), (150_000, 512), (30_000, 256)):
        (rows, _), (unsure, _) = (ask(of, classes, features=features) for of in (wide, known))
        assert {row.head for row in rows} == set(made.HEADS)
        widths = {row.head: row.seconds.high / row.seconds.low for row in unsure}
        for row in rows:
            assert 1e-6 * made.curve(row.head, classes, 128, features) in row.seconds
            assert row.extrapolated == ()
            assert row.seconds.high / row.seconds.low < widths[row.head]


def test_what_only_other_widths_measured_is_checked_too(several, findings):
    found = command.check(findings, find(load(several)))
    assert len(found) == 2 * 2 * len(made.HEADS) * 2 * len(made.FEW_CLASSES)
    assert all(one.measured in one.predicted for one in found if one.quantity == "time")


# --- the command -------------------------------------------------------------------------------


def run(capsys, *arguments):
    try:
        status = command.main(list(map(str, arguments)))
    except SystemExit as leaving:
        status = leaving.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_answer_fits_a_terminal_of_80_columns(synthetic, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    sizes = ("--classes", "500000", "--batch", "256", "--features", "512", "--memory", "2GiB")
    status, out, _ = run(capsys, *sizes, "--run", synthetic)
    assert status == 0
    table = out[: out.index("Predicted from")]
    assert max(map(len, table.splitlines())) <= 80
    assert all(head in table for head in made.HEADS)
    assert "hierarchical: predicted to be the fastest that fits into 2.00 GiB." in table
    assert "Extrapolated: classes and batch and features" in table


def test_the_newest_run_answers(small, capsys):
    status, out, _ = run(capsys, "--classes", 1000, "--results", small.parent)
    assert status == 0
    assert small.name in out.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--classes", "0"], "whole number from 1 to 9007199254740991, got '0'"),
        (["--classes", "many"], "whole number from 1 to 9007199254740991, got 'many'"),
        (["--classes", "²"], "whole number from 1 to 9007199254740991"),
        (["--classes", "10", "--memory", "2 chairs"], "2GiB, from 1 to 2^60, got '2 chairs'"),
        (["--classes", "10", "--phase", "dream"], "invalid choice: 'dream'"),
        (["--classes", "10", "--run", "nope"], "no run 'nope'"),
        (["--classes", "10"], "measure one first"),
        ([], "--classes is missing"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, said):
    status, out, err = run(capsys, *arguments, "--results", tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("1.5GiB", 3 * GIB // 2), ("2g", 2_000_000_000), ("16 MB", 16_000_000)],
)
def test_a_memory_limit_is_read_with_its_unit(text, size):
    assert command._bytes(text) == size


def without(path, classes, heads=made.HEADS):
    lines = made.journal(heads, seed=1)
    kept = [line for line in lines if line["cell"]["classes"] not in classes]
    return made.write_run(path, kept)


def test_predictions_of_cells_left_out_are_right(tmp_path, findings):
    left_out = {1_024, 16_384}
    old = find(load(without(tmp_path / "old", left_out)))
    found = command.check(old, findings)
    assert len(found) == 2 * 2 * len(made.HEADS) * len(left_out) * len(made.BATCHES)
    assert not any(one.extrapolated for one in found)
    assert sum(one.measured in one.predicted for one in found) >= 0.9 * len(found)
    assert max(one.error for one in found) < 0.2


def test_how_right_predictions_are_is_told(tmp_path, small, capsys):
    old = without(tmp_path / "old", {1_024}, ("softmax", "hierarchical"))
    status, out, _ = run(capsys, "--check", old, small)
    assert status == 0
    assert "in range" in out


def test_a_run_cannot_be_checked_against_itself_or_another_device(tmp_path, small, capsys):
    status, _, err = run(capsys, "--check", small, small)
    assert status == 2
    assert "holds no cell" in err
    lines = made.journal(("softmax", "hierarchical"))
    elsewhere = [line | {"cell": line["cell"] | {"device": "cuda"}} for line in lines]
    other = made.write_run(tmp_path / "other", elsewhere)
    status, _, err = run(capsys, "--check", small, other)
    assert status == 2
    assert "cannot predict" in err
    assert err.count("\n") == 1
