"""What a revision is: what was committed, or the working tree as git would have it."""

import subprocess

import pytest

from bench.versus.revisions import RevisionError, unpack
from tests.bench.versus.known_costs import HEADS, change, versus


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
