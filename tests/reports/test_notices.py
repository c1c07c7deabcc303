"""What disturbed a run is said in its report, whatever else its file may hold."""

from __future__ import annotations

import pytest

from reports import results
from reports.findings.findings import find
from reports.findings.notices import notices
from tests.reports.synthetic import cell, timed, write_run


@pytest.fixture
def said(tmp_path):
    """The notices of a small run with such facts, title by title."""

    def of(**facts):
        line = timed(cell("softmax", "train", 16, 32), 0, [1e-3] * 6)
        run = results.load(write_run(tmp_path / "run", lines=[line], trainings=[], **facts))
        return {notice.title: notice.text for notice in notices(find(run))}

    return of


def test_a_host_that_takes_time_away_is_named(said):
    assert "the host gave 3.0\u00a0% of the CPU" in said(stolen=0.03)["A busy machine"]


def test_a_clock_that_fell_is_named(said):
    text = said(throttled="the CPU's clock fell from 3000 to 2000 MHz")["A throttled machine"]
    assert "fell from 3000 to 2000 MHz" in text


@pytest.mark.parametrize("value", [None, 0, 0.001, float("nan"), "much", [1]])
def test_what_is_no_disturbance_is_not_said(said, value):
    throttled = None if isinstance(value, str) else value
    found = said(stolen=value, throttled=throttled)
    assert "A busy machine" not in found
    assert "A throttled machine" not in found
