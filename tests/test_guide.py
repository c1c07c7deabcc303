"""docs/adding.md does what it says: its files are written into a copy, its commands are run."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "adding.md").read_text("utf-8")

FILES = re.findall(r'```(?:python|html) title="(.+?)"\n(.*?)```', GUIDE, re.DOTALL)
CHANGES = re.findall(r'```diff title="(.+?)"\n(.*?)```', GUIDE, re.DOTALL)
COMMANDS = re.findall(r"^tox .+$", GUIDE, re.MULTILINE)

PYTEST = ("-m", "pytest", "-c", "pyproject.toml")
ENVIRONMENTS = {
    "tests": PYTEST,
    "bench": (*PYTEST, "bench"),
    "peers": (*PYTEST, "bench", "--sweep", "peers"),
}
"""What tox runs, without making an environment first."""

TINY = (
    *("--classes", "4,300", "--batches", "4", "--passes", "1", "--train-images", "300"),
    *("--threads", "1", "--benchmark-max-time=0.005"),
)
"""Appended to a sweep, so that it takes seconds."""


def changed(text, diff):
    """`text` with the hunks of `diff`, whose context must occur exactly once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if not line.startswith("+"))
        assert text.count(before) == 1, before
        text = text.replace(before, "".join(line[1:] for line in lines))
    return text


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with everything that the guide adds."""
    copy = tmp_path_factory.mktemp("project")
    # With what is compiled already: it takes longer than the tests.
    junk = shutil.ignore_patterns("html", "reference", "test_guide.py")
    for folder in ("heads", "models", "bench", "reports", "tests", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=junk)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, content in FILES:
        assert not (copy / name).exists(), name
        (copy / name).write_text(content, "utf-8")
    for name, diff in CHANGES:
        path = copy / name
        path.write_text(changed(path.read_text("utf-8"), diff), "utf-8")
    return copy


@pytest.fixture
def run(project, warm):
    """The output of a command that must succeed, run in `project` without data or network."""
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    environment = {
        **os.environ,
        **nowhere,
        "PYTHONPATH": str(project),
        "CIFAR100_ROOT": "",
        "OMP_NUM_THREADS": "1",
    }

    def run(*arguments):
        process = warm.start(*arguments, cwd=project, env=environment)
        output, errors = process.communicate()
        assert process.returncode == 0, output + errors
        return output

    return run


def test_the_guide_holds_a_head_a_peer_and_a_section_with_their_tests():
    assert {Path(name).parent.as_posix() for name, _ in FILES} == {
        *("heads", "tests/heads", "bench/peers", "tests/bench"),
        *("reports/page/sections", "tests/reports"),
    }
    packages = ("heads", "bench/peers", "reports/page/sections")
    assert {name for name, _ in CHANGES} == {
        *(f"{package}/__init__.py" for package in packages),
        "tests/heads/test_half.py",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guides_commands_succeed(project, run, command):
    _, _, environment, _, *arguments = shlex.split(command)
    sweep = TINY if environment != "tests" else ()
    output = run(*ENVIRONMENTS[environment], *arguments, *sweep)
    if not sweep:
        assert " passed" in output
        return
    (folder,) = (project / "results").iterdir()
    added = arguments[arguments.index("--heads") + 1].split(",")[1]
    lines = (folder / "journal.jsonl").read_text("utf-8").splitlines()
    found = [entry for line in lines if (entry := json.loads(line))["cell"]["head"] == added]
    assert {entry["status"] for entry in found if entry["kind"] == "time"} == {"measured"}
    (page,) = (project / "reports" / "html").glob(f"{folder.name}.html")
    assert added in page.read_text("utf-8")
    shutil.rmtree(project / "results")


def test_the_guides_files_are_linted_and_formatted(run):
    names = [name for name, _ in (*FILES, *CHANGES) if name.endswith(".py")]
    run("-m", "ruff", "check", *names)
    run("-m", "ruff", "format", "--check", *names)
