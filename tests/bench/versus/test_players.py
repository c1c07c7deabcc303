"""Players: what each plays, and the nest that they are started from."""

import platform
from pathlib import Path

import psutil
import pytest
import torch

import heads
from bench.versus import process
from bench.versus.player import Piece
from bench.versus.process import CannotPlayError, PlayerError, Revision, nest
from tests.bench.versus.known_costs import change, versus


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
