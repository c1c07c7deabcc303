"""Runs that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.findings.adviser import Adviser, adviser
from reports.findings.findings import Findings, find
from reports.page import html
from reports.results import load
from tests.reports.synthetic import write_run


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run that no test changes."""
    return write_run(tmp_path_factory.mktemp("results") / "20260101-000000-synthetic")


@pytest.fixture(scope="session")
def findings(synthetic: Path) -> Findings:
    """What is found in it."""
    return find(load(synthetic))


@pytest.fixture(scope="session")
def known(findings: Findings) -> Adviser:
    """What it tells of sizes that nobody measured."""
    return adviser(findings)


@pytest.fixture(scope="session")
def page(findings: Findings) -> str:
    """Its page."""
    return html.render(findings)
