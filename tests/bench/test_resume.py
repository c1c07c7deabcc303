"""Kill a run at any moment: resuming it completes it, and nothing is measured twice or lost."""

import json
import random
import signal
import time

import psutil
import pytest

KILLS = 4


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_a_run_to_end_gets_a_report_and_the_line_that_resumes(headbench, tiny, asked):
    process = headbench.start(*tiny)
    while not any(
        path.read_bytes().count(b"\n") > 12
        for path in headbench.folder.glob("results/*/journal.jsonl")
    ):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(asked)
    output, errors = process.communicate()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output + errors
    assert f"--resume {headbench.path.name}" in output.replace("\n", " ")
    assert list(headbench.folder.glob("reports/html/*.html"))
    assert "Traceback" not in output + errors


def test_ctrl_c_ends_trainings_at_once_and_resuming_completes_them(headbench, tiny):
    asked = (*tiny, "--epochs", "6", "--jobs", "2")
    process = headbench.start_cold(*asked, "-k", "test_training")  # whose pool's are its own
    while not list(headbench.folder.glob("results/*/training/*.checkpoint")):
        assert process.poll() is None
        time.sleep(0.05)
    for one in (*psutil.Process(process.pid).children(recursive=True), process):
        one.send_signal(signal.SIGINT)  # as a terminal does
    output, errors = process.communicate()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output + errors
    assert "Traceback" not in output + errors

    status, output, errors = headbench.run("--resume", "latest", "-k", "test_training")
    assert status == 0, output + errors
    for head in ("softmax", "hierarchical"):
        assert headbench.training(head)["status"] == "measured"
        assert len(headbench.training(head)["epochs"]) == 6
    assert not list(headbench.path.glob("training/*.checkpoint"))


def key(line):
    return line["kind"], tuple(sorted(line["cell"].items())), line["pass"]


def kill_after(process, headbench, lines):
    """Kill without warning once the journal has grown by `lines` lines, or at the end."""
    journal = headbench.folder.joinpath("results")
    begin = None
    while process.poll() is None:
        written = sum(path.read_bytes().count(b"\n") for path in journal.glob("*/journal.jsonl"))
        begin = written if begin is None else begin
        if written - begin >= lines:
            process.kill()
        time.sleep(0.005)
    process.communicate()
    return process.returncode


def test_a_run_killed_again_and_again_ends_complete(headbench, tiny, finished):
    chance = random.Random(20)
    reference = finished[0]
    assert kill_after(headbench.start(*tiny), headbench, chance.randint(1, 15)) == -signal.SIGKILL
    kills = 1
    while kills < KILLS:
        process = headbench.start("--resume", "latest", "--benchmark-max-time=0.005")
        assert kill_after(process, headbench, chance.randint(1, 15)) == -signal.SIGKILL
        kills += 1
    with (headbench.path / "journal.jsonl").open("a") as file:
        file.write('{"kind": "time", "cell": {"he')  # a line torn by a kill
    status, output, errors = headbench.run("--resume", "latest", "--benchmark-max-time=0.005")
    assert status == 0, output + errors

    whole = [line for line in _readable(headbench) if line["status"] == "measured"]
    keys = [key(line) for line in whole]
    assert len(keys) == len(set(keys)) == headbench.facts()["planned"]
    assert set(keys) == {key(line) for line in reference.journal()}
    assert headbench.facts()["finished"]
    for head in ("softmax", "hierarchical"):
        ours, theirs = headbench.training(head), reference.training(head)
        assert ours["final"] == theirs["final"]
        assert ours["losses"] == theirs["losses"]


def _readable(headbench):
    for line in (headbench.path / "journal.jsonl").read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            assert line == '{"kind": "time", "cell": {"he'
