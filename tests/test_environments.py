"""Each environment of tox.ini installs what it uses, and what may not be installed has a reason."""

from __future__ import annotations

import configparser
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.reports.test_isolation import MODULES, imported

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
PROJECT = tomllib.loads(PYPROJECT)
TOX = configparser.ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini", "utf-8")


def test_who_only_reports_installs_what_reports_imports_and_nothing_else() -> None:
    asked = {re.split("[<>=]", one)[0] for one in PROJECT["dependency-groups"]["report"]}
    used = set.union(*map(imported, MODULES)) - sys.stdlib_module_names - {"reports", ""}
    assert used - {"markupsafe"} == asked  # which Jinja is made of


@pytest.mark.parametrize("group", ["report", "tensorboard"])
def test_a_group_that_replaces_the_package_asks_for_the_same_versions(group: str) -> None:
    assert set(PROJECT["dependency-groups"][group]) <= set(PROJECT["project"]["dependencies"])


def test_no_environment_of_reports_installs_the_package() -> None:
    for name in TOX.sections():
        if "-m reports" in TOX[name].get("commands", ""):
            assert TOX[name].get("base") == "reads, testenv", name


def test_every_upper_bound_says_why() -> None:
    bounds = [line for line in PYPROJECT.splitlines() if re.search(r'^    ".*<.*",', line)]
    assert bounds
    assert all(" # " in line for line in bounds)


def test_what_needs_a_gpu_bears_the_mark_that_its_environment_asks_for() -> None:
    assert "-m cuda" in TOX["testenv:cuda-tests"]["commands"]
    own = Path(__file__)
    unmarked = [
        path.name
        for path in own.parent.rglob("test_*.py")
        if path != own and re.search(r"skipif\(not torch\.cuda", path.read_text("utf-8"))
    ]
    assert not unmarked
