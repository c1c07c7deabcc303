"""A repository to compare revisions of, and the ways to start players."""

import pytest

from bench.versus import process
from tests.bench.versus.known_costs import HEADS, TORCH, git


@pytest.fixture(params=["forked", "fresh"])
def way(request, monkeypatch):
    """How players are started."""
    if request.param == "forked" and not process.FORKS:
        pytest.skip("nothing is forked here")
    monkeypatch.setattr(process, "FORKS", request.param == "forked")


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
