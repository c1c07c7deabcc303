"""`reports` looks at results on disk only, and the format that others write through is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reports

ROOT = Path(reports.__file__).parents[1]
MODULES = sorted((ROOT / "reports").rglob("*.py"))
FOREIGN = {"bench", "heads", "models", "torch"}


def loaded_by(*imports: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after these imports."""
    code = "\n".join(["import sys", *(f"import {one}" for one in imports), "print(*sys.modules)"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def imported(path: Path) -> set[str]:
    """Top-level packages that a module imports, also where it does so late."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_of_reports_imports_nothing_that_measures(path: Path) -> None:
    assert not imported(path) & FOREIGN


def test_reports_as_a_whole_loads_nothing_that_measures() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    held = loaded_by(*(name.removesuffix(".__init__") for name in names))
    assert "reports" in held
    assert not held & FOREIGN


def test_who_writes_results_loads_nothing_that_only_reports_need() -> None:
    assert not loaded_by("reports.results") & {"pandas", "matplotlib", "scipy", "jinja2", *FOREIGN}
