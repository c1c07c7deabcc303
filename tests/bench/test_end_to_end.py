"""A whole run, started as a user starts it: everything planned is there at the end."""

import json
import os
import statistics

import pytest
from PIL import Image

from bench.cells import PIPELINES


def test_the_run_succeeds(finished):
    _, status, output, errors = finished
    assert status == 0, output + errors


def test_every_planned_cell_is_measured_once(finished):
    headbench, *_ = finished
    lines = headbench.journal()
    keys = [(line["kind"], json.dumps(line["cell"]), line["pass"]) for line in lines]
    assert len(set(keys)) == len(keys) == headbench.facts()["planned"]
    assert {line["status"] for line in lines} == {"measured"}
    assert all(min(line["seconds"]) > 0 for line in lines if line["kind"] == "time")


@pytest.mark.parametrize("head", ["softmax", "hierarchical"])
def test_every_head_is_trained_and_traced(finished, head):
    headbench, *_ = finished
    record = headbench.training(head)
    assert record["status"] == "measured"
    assert len(record["epochs"]) == 1
    assert list((headbench.path / "traces" / head).glob("*.pt.trace.json"))
    assert list((headbench.path / "traces" / f"{head}-seed0").glob("events.out.tfevents.*"))


def test_stand_in_images_are_said_in_terminal_facts_and_record(finished):
    headbench, _, output, _ = finished
    assert "stand-in images" in output
    assert headbench.facts()["dataset"]["stand_in"] is True
    assert headbench.training("softmax")["dataset"]["stand_in"] is True


def test_the_study_times_pipelines_in_turns_and_takes_steps_apart(headbench):
    status, output, errors = headbench.run(
        *("--sweep", "study", "--heads", "softmax", "--model-classes", "4", "--passes", "2"),
        *("--train-images", "300", "--threads", "2", "-k", "test_pipeline or test_split"),
        *("-p", "tests.bench.few_steps"),
    )
    assert status == 0, output + errors
    steps = [line for line in headbench.journal() if line["kind"] == "time"]
    assert {line["cell"]["scope"] for line in steps} == {"pipeline"}
    assert [line["cell"]["pipeline"] for line in steps] == [*PIPELINES] * 2
    assert [line["iterations"] for line in steps] == [3, 3, 6, 6] * 2  # two processes
    splits = [line for line in headbench.journal() if line["kind"] == "split"]
    assert [line["cell"]["classes"] for line in splits] == [4, 4]
    for line in splits:
        lengths = {len(seconds) for seconds in line["parts"].values()}
        assert lengths == {headbench.facts()["options"]["sweep"]["split_steps"]}
        assert line["flops_per_image"] > 0


def test_pytest_benchmark_has_its_own_file_with_the_same_samples(finished):
    headbench, *_ = finished
    theirs = json.loads((headbench.path / "pytest-benchmark.json").read_text())["benchmarks"]
    ours = [line for line in headbench.journal() if line["kind"] == "time"]
    assert [entry["stats"]["data"] for entry in theirs] == [line["seconds"] for line in ours]
    for entry, line in zip(theirs, ours, strict=True):
        params = entry["params"]
        assert params.pop("pass_index") == line["pass"]
        assert params.items() <= line["cell"].items()  # plain values, as the journal has them
        assert params.keys() >= {"scope", "head", "phase", "classes", "batch", "replica"}


def test_github_action_benchmark_finds_in_it_what_it_reads(finished):
    """`extractPytestResult` in its src/extract.ts: one curve per fullname, of `stats.ops`."""
    headbench, *_ = finished
    theirs = json.loads((headbench.path / "pytest-benchmark.json").read_text())["benchmarks"]
    assert len({entry["fullname"] for entry in theirs}) == len(theirs)
    for entry in theirs:
        stats = entry["stats"]
        assert stats["ops"] == pytest.approx(1 / statistics.fmean(stats["data"]))
        assert stats["rounds"] == len(stats["data"])
        assert {"mean", "stddev"} <= stats.keys()


def test_the_report_is_written_and_its_path_is_shown(finished):
    headbench, _, output, _ = finished
    (report,) = (headbench.folder / "reports" / "html").glob("*.html")
    assert report.name in output.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--classes", "1"), "argument --classes: expected a whole number from 2"),
        (("--benchmark-max-time", "nan"), "argument --benchmark-max-time: expected a number"),
        (("--resume", "nope"), "no run 'nope'"),
        (("--benchmark-disable",), "leave nothing to measure"),
        (("--benchmark-cprofile", "cumtime"), "see the traces of a run instead"),
    ],
)
def test_a_wrong_option_is_answered_in_one_line(headbench, arguments, complaint):
    status, output, errors = headbench.run(*arguments)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert complaint in errors
    assert "Traceback" not in output + errors


def test_a_damaged_data_set_stops_the_run_before_anything_is_measured(headbench, tiny, tmp_path):
    folder = tmp_path / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(b"damaged")
    status, output, errors = headbench.run(*tiny, "--data", str(tmp_path / "data"))
    assert status == pytest.ExitCode.USAGE_ERROR
    assert str(folder.parent) in errors
    assert "Traceback" not in output + errors
    assert not (headbench.folder / "results").exists()


ONE = (
    *("--sweep", "quick", "--heads", "softmax", "--classes", "4", "--batches", "4"),
    *("--model-classes", "4", "--passes", "1", "--threads", "1", "--benchmark-max-time=0.005"),
)


def test_class_folders_may_be_called_anything_in_a_terminal_that_knows_ascii(
    headbench, tmp_path, monkeypatch
):
    """All of a run, in an interpreter that has imported nothing but what the run imports."""
    for name in (b"caf\xff", b"red\x1b[31m"):
        folder = os.path.join(os.fsencode(tmp_path), b"data", name)  # noqa: PTH118
        for split in (b"train", b"test"):
            os.makedirs(folder.replace(b"data", b"data/" + split))  # noqa: PTH103
            file = os.fsdecode(folder.replace(b"data", b"data/" + split)) + "/0.png"
            Image.new("RGB", (32, 32)).save(file)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)  # tox sets it
    status, output, errors = headbench.run_cold(
        *ONE, "--heads", "softmax,hierarchical", "--epochs", "1", "--data", str(tmp_path / "data")
    )
    assert status == 0, output + errors
    assert headbench.facts()["finished"]
    assert (output + errors).isascii()
    assert "\x1b" not in output + errors
    (page,) = headbench.folder.glob("reports/html/*.html")
    assert r"caf\udcff" in page.read_text("utf-8")


def test_a_report_that_fails_and_a_disk_that_is_full_are_lines_and_an_exit_status(headbench):
    (headbench.folder / "reports").touch()  # where the folder of the pages would be
    arguments = (*ONE, "--train", "none", "-k", "test_time")
    status, output, errors = headbench.run(*arguments)
    assert status == 2, output + errors
    assert "error: cannot write reports/html" in errors
    assert "Traceback" not in output + errors

    (headbench.folder / "reports").unlink()
    status, output, errors = headbench.run(
        *arguments, "--results", "others", "--benchmark-json", "/dev/full"
    )
    assert status == pytest.ExitCode.INTERNAL_ERROR, output + errors
    assert "No space left on device" in output
    assert "--resume" in output
    assert "Traceback" not in output + errors
    assert list(headbench.folder.glob("reports/html/*.html"))
