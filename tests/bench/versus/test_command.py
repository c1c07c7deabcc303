"""The command: what it says of two revisions, of what it left out, and of what went wrong."""

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from bench.versus import __main__ as command
from tests.bench.versus.known_costs import change, git, versus

ROOT = Path(__file__).parents[3]


def test_a_slower_head_is_found_and_the_other_is_not_blamed(repository, capsys):
    change(repository, '"first": 1', '"first": 5')
    assert versus("HEAD", minutes="0.05") == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "train" in line]
    assert ["slower" in line for line in lines] == ["first" in line for line in lines]


def test_a_faster_head_is_no_failure_and_said(repository, capsys):
    change(repository, '"first": 1', '"first": 5')
    git(repository, "commit", "-q", "-a", "-m", "second")
    assert versus("HEAD", "HEAD~1", minutes="0.05") == 0
    assert "faster" in capsys.readouterr().out


def test_the_threshold_is_what_does_not_count(repository):
    change(repository, '"first": 1', '"first": 5')
    assert versus("HEAD", "--threshold", "10", minutes="0.05") == 0


def test_a_head_that_one_side_lacks_is_left_out_by_name(repository, capsys):
    change(repository, '"second": 1', '"third": 1')
    assert versus("HEAD", heads="first,second,third") == 0
    told = capsys.readouterr().out
    assert "left out: second: working tree has no such head" in told
    assert "left out: third: HEAD (" in told


def test_a_head_that_cannot_be_built_is_left_out_with_the_reason(repository, capsys):
    change(repository, "build = lambda", "build = lambda *_: 1 / 0\nlambda")
    assert versus("HEAD") == 2
    told = capsys.readouterr()
    assert "left out: first train 16: ZeroDivisionError: division by zero" in told.out
    assert "nothing is left to play" in told.err


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("return self\n", "import os; os.abort()\n", "signal SIGABRT while building"),
        ("return self\n", "import os; os.kill(os.getpid(), 9)\n", "signal SIGKILL while building"),
        ("import time\n", "import nothing_like_it\n", "No module named 'nothing_like_it'"),
    ],
)
def test_a_crash_of_a_player_is_one_line(old, new, complaint, repository, capsys):
    change(repository, old, new)
    assert versus("HEAD") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: working tree: its process ended with")
    assert complaint in told
    assert told.count("\n") == 1


def test_a_crash_in_play_is_one_line(repository, capsys):
    change(repository, "        return self\n", "        del self.milliseconds; return self\n")
    change(repository, "self.milliseconds\n        while", "getattr(self, 'milliseconds', 1 / 1)\n")
    assert versus("HEAD") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("left", ["nothing", "a folder"])
def test_a_revision_without_heads_does_not_play_those_of_another(left, repository, capsys):
    shutil.rmtree(repository / "heads")
    if left == "a folder":
        (repository / "heads").mkdir()
        (repository / "heads" / "README").write_text("soon")
    assert versus("HEAD") == 2
    told = capsys.readouterr().err
    assert "No module named 'heads'" in told or "no package called heads" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_nothing_is_left_of_a_run_that_is_ended(number, status, repository, shared, warm):
    inside = repository / "inside"
    inside.mkdir()  # where no `heads` lie that the run itself could find
    paths = f"{ROOT}{os.pathsep}{shared}"
    run = warm.start(
        *("-m", "bench.versus", "HEAD", "--heads", "first", "--minutes", "5"),
        cwd=inside,
        env={**os.environ, "PYTHONPATH": paths},
    )
    while not (folders := [folder for folder in map(plays_in, below(run)) if folder]):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    started = below(run)
    run.send_signal(number)
    run.communicate()
    assert run.returncode == status
    until = time.monotonic() + 60
    while any(map(lives, started)):
        assert time.monotonic() < until
        time.sleep(0.05)
    if number == signal.SIGKILL:  # whose temporary files outlive it
        shutil.rmtree(folders[0])
    assert not folders[0].exists()


def below(run):
    return psutil.Process(run.pid).children(recursive=True)


def plays_in(one):
    """The folder of all revisions, of a player."""
    try:
        folder = Path(one.cwd()).parent
    except psutil.NoSuchProcess:
        return None
    return folder if folder.name.startswith("versus-") else None


def lives(one):
    try:
        return one.status() != psutil.STATUS_ZOMBIE  # who adopts it may take its time
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["HEAD", "--minutes", "nan"], "--minutes: expected a number from 0.01 to 1440, got 'nan'"),
        (["HEAD", "--phases", "trian"], "--phases: no phase 'trian'; there are: forward"),
        (["HEAD", "--classes", "1"], "--classes: expected a whole number from 2"),
        (["HEAD", "--heads", ""], "--heads: expected names parted by commas"),
        (["HEAD", "--threads", "0"], "--threads: expected a whole number from 1"),
        (["HEAD", "--device", "tpu"], "--device: must be cpu, cuda or cuda:N, got 'tpu'"),
        (["HEAD", "--threshold", "-1"], "--threshold: expected a number from 0 to 100"),
        ([], "the following arguments are required: REV"),
        (["HEAD", "main", "more"], "unrecognized arguments: more"),
    ],
)
def test_a_wrong_option_is_answered_in_one_line(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
