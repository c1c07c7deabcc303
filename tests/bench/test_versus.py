"""Duets of two revisions: what plays, in which turns, and what is said of it."""

import ast
import math
import os
import platform
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from scipy.stats import mstats, ttest_1samp

import heads
from bench.versus import __main__ as command
from bench.versus import duet, plant, power, process
from bench.versus.duet import Cell, Stage, perform
from bench.versus.player import Piece
from bench.versus.process import CannotPlayError, PlayerError, Revision, nest
from bench.versus.revisions import RevisionError, unpack
from bench.versus.verdict import interval, midmeans, verdicts

ROOT = Path(__file__).parents[2]
CELLS = [Cell(name, "train", 16, 4, 8, "cpu") for name in ("first", "second")]

TORCH = '''
"""As much of torch as a player asks for, loaded at once."""
import contextlib

class no_grad(contextlib.ContextDecorator):
    __enter__ = __exit__ = lambda *_: None

class Leaf:
    grad = None
    unbind = lambda self: [self]

device = lambda name: contextlib.nullcontext()
get_num_threads = lambda: 1
manual_seed = set_num_threads = print
randint = randn = lambda *_, **__: Leaf()
'''

HEADS = """
import time

MILLISECONDS = {"first": 1, "second": 1}

class Head:
    def __init__(self, milliseconds):
        self.loss, self.milliseconds = self, milliseconds
        print("a head may say what it likes")

    def spin(self, *_):
        end = time.process_time() + 1e-3 * self.milliseconds
        while time.process_time() < end:
            pass
        return self

    __call__ = predict = spin
    backward = parameters = train = lambda self, *_: []

names = lambda: tuple(MILLISECONDS)
build = lambda name, in_features, num_classes: Head(MILLISECONDS[name])
"""


@pytest.fixture(params=["forked", "fresh"])
def way(request, monkeypatch):
    """How players are started."""
    if request.param == "forked" and not process.FORKS:
        pytest.skip("nothing is forked here")
    monkeypatch.setattr(process, "FORKS", request.param == "forked")


def git(folder, *arguments):
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def shared(tmp_path_factory, monkeypatch):
    """Where players find what revisions share: little of torch, and no numba."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "torch.py").write_text(TORCH)
    (folder / "numba.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def repository(shared, tmp_path, monkeypatch):
    """A repository with heads of a known cost, the current folder."""
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "__init__.py").write_text(HEADS)
    (tmp_path / "README").write_text("heads")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(folder, old, new):
    path = folder / "heads" / "__init__.py"
    path.write_text(path.read_text().replace(old, new))


def versus(*arguments, heads="first,second", minutes="0.01"):
    return command.main(
        [*arguments, "--heads", heads, "--phases", "train", "--classes", "16", "--minutes", minutes]
    )


# The revisions


def test_the_working_tree_is_what_git_would_not_ignore(repository, tmp_path_factory):
    change(repository, '"first": 1', '"first": 2')
    (repository / "heads" / "new.py").write_text("new")
    (repository / "ignored").write_text("no")
    (repository / "README").unlink()
    before = subprocess.check_output(["git", "status", "--porcelain"])
    folder = tmp_path_factory.mktemp("unpacked") / "0"
    assert unpack(None, folder) == "working tree"
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == [".gitignore", "heads/__init__.py", "heads/new.py"]
    assert '"first": 2' in (folder / "heads" / "__init__.py").read_text()
    assert subprocess.check_output(["git", "status", "--porcelain"]) == before


def test_a_revision_is_what_was_committed(repository, tmp_path_factory):
    change(repository, '"first": 1', '"first": 2')
    folder = tmp_path_factory.mktemp("unpacked") / "0"
    assert unpack("main", folder).startswith("main (")
    assert (folder / "heads" / "__init__.py").read_text() == HEADS


@pytest.mark.parametrize("name", ["nope", "--all", "HEAD~1", "", "HEAD:heads"])
def test_an_unknown_revision_is_one_line(name, repository, capsys):
    with pytest.raises(RevisionError, match="no revision"):
        unpack(name, repository / "0")
    assert not (repository / "0").exists()


def test_no_repository_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert versus("HEAD") == 2
    told = capsys.readouterr().err
    assert "not a git repository" in told
    assert told.count("\n") == 1


def test_no_git_is_one_line(repository, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert versus("HEAD") == 2
    assert capsys.readouterr().err == (
        "error: git is needed to get at revisions, and is not installed\n"
    )


# The command


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


# The player


@pytest.mark.parametrize("phase", ["forward", "backward", "step", "train", "predict"])
@pytest.mark.parametrize("name", heads.names())
def test_every_head_plays_every_phase_and_stays_as_it_was(name, phase):
    request = {"head": name, "phase": phase, "classes": 20, "batch": 4, "features": 8}
    piece = Piece(heads, {**request, "device": "cpu", "seed": 3})
    torch.manual_seed(3)
    fresh = heads.build(name, 8, 20)
    assert piece.warm_up() > 0
    assert piece.play(3) > 0
    played = piece._head.state_dict()
    assert all(torch.equal(played[key], value) for key, value in fresh.state_dict().items())


@pytest.mark.usefixtures("way")
def test_a_player_is_heard_beside_what_a_head_prints(repository):
    request = {"head": "first", "phase": "train", "classes": 2, "batch": 1, "features": 1}
    with nest(threads=1) as player, player(Revision("here", repository), None) as one:
        assert one.names() == ["first", "second"]
        assert one.build({**request, "device": "cpu", "seed": 0}) >= 1e-3
        assert one.play(calls=3, lead=1) >= 3e-3
        with pytest.raises(CannotPlayError, match="KeyError: 'fourth'"):
            one.build({**request, "head": "fourth", "device": "cpu", "seed": 0})


WHERE = """
from pathlib import Path
import torch

LINES = Path("/proc/self/maps").read_text().splitlines()
names = lambda: [line for line in LINES if " r-xp " in line and torch.__path__[0] in line]
"""


@pytest.mark.skipif(
    not (process.FORKS and Path("/proc/self/maps").exists()), reason="needs a fork, and Linux"
)
def test_both_players_of_a_pair_find_the_libraries_at_the_same_addresses(tmp_path):
    sides = [Revision(name, tmp_path / name) for name in "ab"]
    for side in sides:
        (side.folder / "heads").mkdir(parents=True)
        (side.folder / "heads" / "__init__.py").write_text(WHERE)
    with nest(threads=1) as player, player(sides[0], None) as a, player(sides[1], None) as b:
        where = a.names()
        assert any("libtorch" in line for line in where)
        assert where == b.names()


FAULTS = """
from resource import RUSAGE_SELF, getrusage

def faults():
    before = getrusage(RUSAGE_SELF).ru_minflt
    b"x" * 2**26
    return getrusage(RUSAGE_SELF).ru_minflt - before

names = lambda: [faults() for _ in range(3)]
"""


@pytest.mark.usefixtures("way")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have other ways")
def test_a_player_faults_no_page_in_again_that_it_has_freed(repository):
    (repository / "heads" / "__init__.py").write_text(FAULTS)
    with nest(threads=1) as player, player(Revision("here", repository), None) as one:
        first, *later = one.names()
    assert max(later) < first / 10


def test_each_player_is_a_process_of_its_own_and_gone_when_its_block_ends(repository):
    change(repository, "tuple(MILLISECONDS)", "[__import__('os').getpid()]")
    revision = Revision("here", repository)
    with nest(threads=1) as player:
        with player(revision, None) as one, player(revision, None) as other:
            found = {*one.names(), *other.names()}
            assert len(found) == 2
            assert all(map(psutil.pid_exists, found))
        assert not any(map(psutil.pid_exists, found))


@pytest.mark.skipif(not process.FORKS, reason="needs a fork")
def test_the_end_of_the_nest_is_one_line(repository):
    with pytest.raises(PlayerError, match=r"nest of all players ended with signal SIGKILL$"):
        play_until_the_nest_is_killed(Revision("here", repository))


def play_until_the_nest_is_killed(revision):
    with nest(threads=1) as player, player(revision, None) as one:
        assert one.names() == ["first", "second"]
        running = psutil.Process().children()
        (forking,) = (child for child in running if str(process.NEST) in child.cmdline())
        forking.kill()


@pytest.mark.usefixtures("way")
def test_broken_libraries_are_one_line(shared, repository, capsys):
    (shared / "torch.py").write_text("raise ImportError('no such symbol')")
    assert versus("HEAD") == 2
    told = capsys.readouterr().err
    assert "ended with exit status 1" in told
    assert told.endswith("ImportError: no such symbol\n")
    assert told.count("\n") == 1


# The duet


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


class Fake:
    """A player that takes as long as it is told to, on a wound clock."""

    start_seconds = 1

    def __init__(self, name, clock, log):
        self.revision, self.clock, self.log = Revision(name, Path()), clock, log
        self.cost = {"old": 1e-3, "new": 1.1e-3}[name]

    def names(self):
        self.clock.seconds += self.start_seconds
        return ["first", "second"]

    def build(self, cell):
        self.log.append(("build", self.revision.name, cell["head"], cell["seed"]))
        return self.cost

    def ask_for(self, cell):
        self.log.append(("rehearse", self.revision.name, cell["head"]))

    def built(self):
        return self.cost

    def play(self, calls, lead):
        self.log.append(("play", self.revision.name, calls, lead))
        self.clock.seconds += calls * self.cost
        return calls * self.cost


@pytest.fixture
def stage(monkeypatch):
    """Plays fakes: the clock, and all that was asked of them."""
    clock, log = Clock(), []

    @contextmanager
    def fake(threads):
        @contextmanager
        def player(revision, core):
            log.append(("start", revision.name, threads, core))
            yield Fake(revision.name, clock, log)

        yield player

    monkeypatch.setattr(duet, "nest", fake)

    def play(seconds):
        sides = Revision("old", Path()), Revision("new", Path())
        return perform(*sides, CELLS, seconds, Stage(1, (5, 7)), seed=0, now=clock)

    return play, clock, log


def test_both_sides_play_strictly_in_turns_with_the_same_weights_on_the_same_core(stage):
    play, _, log = stage
    play(60)
    turns = [entry[1] for entry in log if entry[0] == "play"]
    builds = [entry for entry in log if entry[0] == "build"]
    for (_, a, *same), (_, b, *other) in zip(builds[::2], builds[1::2], strict=True):
        assert {a, b} == {"old", "new"}
        assert same == other
    assert all({a, b} == {"old", "new"} for a, b in zip(turns[::2], turns[1::2], strict=True))
    starts = [entry[2:] for entry in log if entry[0] == "start"]
    assert starts[::2] == starts[1::2]
    assert {core for _, core in starts[2:]} == {5, 7}


def test_the_time_is_kept_and_shared_alike(stage):
    play, clock, _ = stage
    played = play(60)
    assert clock.seconds == pytest.approx(60, rel=0.01)
    counts = [len(pair) for pairs in played.blocks.values() for pair in pairs]
    assert len(counts) == 2 * 14
    assert max(counts) - min(counts) <= 0.02 * max(counts)


def test_more_time_is_more_pairs(stage):
    play, _, _ = stage
    assert {len(pairs) for pairs in play(200).blocks.values()} == {50}


def test_where_starting_takes_longer_pairs_do(stage, monkeypatch):
    play, _, _ = stage
    monkeypatch.setattr(Fake, "start_seconds", 5)
    assert {len(pairs) for pairs in play(200).blocks.values()} == {10}


def test_either_side_is_started_first(stage):
    play, _, log = stage
    play(200)
    firsts = [entry[1] for entry in log if entry[0] == "start"][::2]
    assert 10 < firsts.count("old") < 40


def test_too_little_time_still_plays_everything_once(stage):
    play, _, _ = stage
    assert [[len(pair) for pair in pairs] for pairs in play(0.1).blocks.values()] == [[1], [1]]


def test_what_is_compiled_is_compiled_before_the_first_pair_and_on_any_core(stage):
    play, _, log = stage
    play(0.1)
    assert sorted(log[:2]) == [("start", "new", 1, None), ("start", "old", 1, None)]
    rehearsed = [("rehearse", side, cell.head) for cell in CELLS for side in ("old", "new")]
    assert log[2:6] == rehearsed
    assert {entry[0] for entry in log[6:]} == {"start", "build", "play"}


def test_a_block_is_the_logarithm_of_new_over_old(stage):
    play, _, _ = stage
    blocks = np.concatenate([pair for pairs in play(60).blocks.values() for pair in pairs])
    np.testing.assert_allclose(blocks, math.log(1.1))


def test_slices_are_short_and_begin_with_calls_that_do_not_count(stage):
    play, _, log = stage
    play(60)
    assert {entry[2:] for entry in log if entry[0] == "play"} == {(3, 0)}


# The verdict


GRID = [
    Cell(head, phase, classes, 128, 128, "cpu")
    for head in "abcde"
    for phase in ("train", "predict")
    for classes in (128, 1_024, 8_192)
]


def measured(chance, slowdowns=None, pairs=30):
    """Pairs that see a cell's slowdown, a bias of their processes, and noise with spikes."""
    return {
        cell: np.log1p((slowdowns or {}).get(cell.head, 0))
        + 0.015 * chance.standard_normal(pairs)
        + 0.005 * chance.standard_t(3, pairs)
        for cell in GRID
    }


def changes(pairs, threshold=0.01):
    return {
        (one.head, one.change)
        for one in verdicts(pairs, threshold)
        if one.change in ("slower", "faster")
    }


def test_nothing_is_claimed_between_identical_revisions():
    chance = np.random.default_rng(0)
    # 0.05 of 400 are 20; more than 31 of them happen once in 200 times.
    assert sum(bool(changes(measured(chance), threshold=0)) for _ in range(400)) <= 31
    assert sum(bool(changes(measured(chance))) for _ in range(400)) <= 4


def test_five_percent_of_one_head_are_found():
    chance = np.random.default_rng(1)
    found = [changes(measured(chance, {"c": 0.05})) for _ in range(200)]
    assert sum(("c", "slower") in one for one in found) >= 180
    assert sum(one <= {("c", "slower")} for one in found) >= 190


def test_disturbed_blocks_do_not_move_a_pair():
    cell = GRID[0]
    calm = [[0.01] * 12] * 3
    hit = [[0.01] * 9 + [2.0, -3.0, 1.0]] * 3
    np.testing.assert_allclose(midmeans({cell: calm})[cell], midmeans({cell: hit})[cell])


def test_pairs_that_are_far_off_hide_nothing():
    chance = np.random.default_rng(6)
    pairs = measured(chance, {"c": 0.05})
    disturbed = chance.choice(30, 2, replace=False)
    for logs in pairs.values():
        logs[disturbed] += chance.choice([-1, 1], 2)
    assert changes(pairs) == {("c", "slower")}


@pytest.mark.parametrize("confidence", [0.95, 0.995])
@pytest.mark.parametrize("pairs", [2, 9, 10, 30, 100])
def test_an_interval_is_that_of_a_trimmed_mean_where_there_is_something_to_trim(pairs, confidence):
    logs = 0.02 * np.random.default_rng(pairs).standard_t(3, pairs)
    found = interval(logs, confidence)
    expected = (
        mstats.trimmed_mean_ci(logs, (0.1, 0.1), alpha=1 - confidence)
        if pairs >= 10
        else ttest_1samp(logs, 0).confidence_interval(confidence)
    )
    np.testing.assert_allclose(np.log([found.low, found.high]), expected)


def test_one_pair_bounds_nothing():
    assert interval(np.array([0.5]), 0.95).low == 0
    assert interval(np.array([0.5]), 0.95).high == math.inf


def test_the_slowest_comes_first_with_its_sizes_below():
    chance = np.random.default_rng(2)
    found = verdicts(measured(chance, {"c": 0.5}), 0.01)
    assert {one.head for one in found[:2]} == {"c"}
    rows = command.rows(found)
    assert [row[2] for row in rows[:5]] == ["all", "128", "1,024", "8,192", "all"]


# The benchmark of the method


def test_pairs_drawn_again_find_large_slowdowns_and_no_absent_ones():
    chance = np.random.default_rng(3)
    pool = measured(chance, pairs=60)
    none, large = (power.redrawn(pool, 30, "c", by, 0.01, chance, 100) for by in (0.0, 0.1))
    assert sum(none) <= 0.05
    assert large[0] >= 0.95


def test_the_table_counts_what_was_found_and_what_was_wrong():
    chance = np.random.default_rng(4)
    changes = [[("c", "slower")], [("a", "faster")], []]
    runs = [
        power.Run(planted, measured(chance), one) for planted in (False, True) for one in changes
    ]
    lines = power.report(runs, "c", 0.05, 0.01, draws=2).splitlines()
    rows = [[text.strip() for text in line.strip("|").split("|")] for line in lines[2:4]]
    assert rows == [
        ["3, no change", "-", "67% [21%, 94%]"],
        ["3, c slower by 5.0%", "33% [6%, 79%]", "33% [6%, 79%]"],
    ]


def test_imagined_pairs_are_off_by_as_much_as_asked_for():
    pool = power.imagined(GRID, 0.02, np.random.default_rng(5))
    np.testing.assert_allclose([logs.std() for logs in pool.values()], 0.02, rtol=0.1)


def test_more_noise_finds_less(capsys, monkeypatch):
    monkeypatch.setattr(power, "simulation", partial(power.simulation, draws=200))
    assert power.main(["--noise", "0.01,0.4", "--minutes", "1"]) == 0
    quiet, noisy = (line.split("|") for line in capsys.readouterr().out.splitlines()[2:])
    assert float(quiet[3].strip(" %")) > 95
    assert float(noisy[3].strip(" %")) < 5


def test_a_plant_is_among_the_heads(capsys):
    with pytest.raises(SystemExit):
        power.main(["--slow", "sampled"])
    assert "--slow: 'sampled' is none of --heads softmax" in capsys.readouterr().err


class Spent:
    """A processor's time: what is done advances it, and looking at it does, a little."""

    def __init__(self):
        self.seconds = 0.0

    def spend(self, seconds):
        self.seconds += seconds

    def process_time(self):
        self.spend(1e-4)
        return self.seconds


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_a_planted_slowdown_is_one_in_training_and_in_prediction(monkeypatch, share):
    spent = Spent()
    monkeypatch.setattr(plant, "time", spent)

    class Made:
        def parameters(self):
            return []

        def forward(self, input, target):
            spent.spend(1)
            return SimpleNamespace(loss=SimpleNamespace(backward=lambda: spent.spend(2)))

        def predict(self, input):
            spent.spend(1)

    def taken(name, call):
        made = plant.slowed(lambda head: Made(), "slow", share)(name)
        call(made)  # the first one finds out how much of a step the forward is
        begin = spent.seconds
        call(made)
        return spent.seconds - begin

    batch = SimpleNamespace(grad=None)
    for name, factor in (("slow", 1 + share), ("other", 1)):
        train = taken(name, lambda made: made.forward(batch, batch).loss.backward())
        predict = taken(name, lambda made: made.predict(batch))
        assert (train, predict) == pytest.approx((3 * factor, factor), rel=2e-3)


def test_a_slowdown_is_planted_in_one_head_of_one_side(tmp_path, warm):
    shutil.copytree(ROOT / "heads", tmp_path / "heads")
    power.sow(tmp_path, "hierarchical", 1.0)
    asked = "import heads; print([heads.build(n, 8, 16).forward.__name__ for n in heads.names()])"
    process = warm.start("-c", asked, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    names = ast.literal_eval(said)
    slowed = [head for head, name in zip(heads.names(), names, strict=True) if name != "forward"]
    assert slowed == ["hierarchical"]
