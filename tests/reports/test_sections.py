"""Every section of a page is one module with its template beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reports.findings.findings import Findings
from reports.page import html, sections
from tests.reports.test_report import Page

FOLDER = Path(sections.__file__).parent
OF_SOME = {"scaling", "words"}
"""Sections of runs that measured something that this one did not; tests of their own show them."""

REGISTRIES = {"of a run": sections.OF_A_RUN, "side by side": sections.SIDE_BY_SIDE}


def test_page_and_contents_hold_the_sections_in_the_order_of_the_registry(
    findings: Findings, page: str
) -> None:
    for registry, text in (
        (sections.OF_A_RUN, page),
        (sections.SIDE_BY_SIDE, html.render_side_by_side([findings] * 2, ["a", "b"], "both")),
    ):
        parsed = Page(text)
        names = [section.NAME for section in registry if section.NAME not in OF_SOME]
        assert [section["id"] for section in parsed.all("section")] == names
        links = [link.get("href") for link in parsed.all("a")]
        assert [link for link in links if link in {f"#{name}" for name in names}][: len(names)] == [
            f"#{name}" for name in names
        ]


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_no_module_is_forgotten_in_the_registry(registry: tuple[sections.Section, ...]) -> None:
    folder = Path(sys.modules[registry[0].__name__].__file__ or "").parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "header"} == {
        section.__name__.rpartition(".")[2] for section in registry
    }


def test_what_analyses_draws_nothing() -> None:
    """Numbers are there for a terminal, a notebook or another page without loading the pictures."""
    program = """
import importlib, pkgutil, sys
import reports.findings, reports.summary, reports.advise, reports.compare
for module in pkgutil.iter_modules(reports.findings.__path__):
    importlib.import_module(f"reports.findings.{module.name}")
print(sorted({"matplotlib", "jinja2", "plotly", "reports.page"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
