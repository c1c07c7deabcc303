"""The document behind charts and downloads says what was measured, and nothing that JSON cannot."""

from __future__ import annotations

import base64
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.findings.findings import Findings, find
from reports.page import charts
from reports.page import document as documents
from reports.page.figures import drawing
from reports.results import load
from tests.reports.synthetic import cell, timed, write_run


@pytest.fixture(scope="module")
def document(findings: Findings) -> dict[str, Any]:
    return documents.document([findings], drawing.styles(findings.run.names), ["run"])


@given(st.text())
def test_what_is_packed_can_be_unpacked_and_is_the_same_every_time(text: str) -> None:
    packed = documents.pack(text)
    assert gzip.decompress(base64.b64decode(packed)).decode() == text
    assert documents.pack(text) == packed


def test_document_holds_every_cell_with_its_samples(
    document: dict[str, Any], findings: Findings
) -> None:
    (run,) = document["runs"]
    assert len(run["cells"]) == len(findings.cells)
    for said, measured in zip(run["cells"], findings.cells, strict=True):
        assert (said["head"], said["phase"], said["classes"]) == (
            measured.head,
            measured.phase,
            measured.classes,
        )
        for taken, raw in zip(said["samples"], measured.samples, strict=True):
            np.testing.assert_allclose(taken, raw, rtol=1e-8)
        if measured.seconds:
            assert said["seconds_estimate"] == measured.seconds.estimate
        if measured.memory:
            assert said["peak_bytes"] == measured.memory.peak
            assert said["total_bytes"] == measured.memory.total


def test_document_is_strict_json_even_where_an_interval_is_unbounded(tmp_path: Path) -> None:
    lines = [timed(cell("a", "train", n, 32), 0, [1e-3]) for n in (16, 64)]
    findings = find(load(write_run(tmp_path / "run", lines=lines, trainings=[])))
    seconds = findings.cells[0].seconds
    assert seconds is not None
    assert math.isinf(seconds.high)
    text = documents.dumps(
        documents.document([findings], drawing.styles(findings.run.names), ["run"])
    )
    assert json.loads(text)["runs"][0]["cells"][0]["seconds_high"] is None


def test_curves_are_those_that_the_fits_name(document: dict[str, Any], findings: Findings) -> None:
    named = {(g.head, g.phase): g.time for g in findings.growths if g.time}
    curves = document["runs"][0]["curves"]
    assert {(one["head"], one["phase"]) for one in curves} == {
        place for place, fit in named.items() if fit.within
    }
    for one in curves:
        fit = named[one["head"], one["phase"]]
        assert one["model"] == fit.said
        expected = fit.curve(np.array(one["classes"]))
        np.testing.assert_allclose(one["seconds"], expected, rtol=1e-3)


def test_a_crossover_is_drawn_on_the_line_that_is_crossed(
    document: dict[str, Any], findings: Findings
) -> None:
    found = document["runs"][0]["crossovers"]
    assert found
    for one in found:
        assert one["over"] == "softmax"
        taken = {
            c.classes: c.seconds.estimate
            for c in findings.alone_at(one["phase"], one["batch"])
            if c.head == "softmax" and c.seconds
        }
        at = one["classes"]["estimate"]
        below, above = max(n for n in taken if n <= at), min(n for n in taken if n >= at)
        low, high = sorted((taken[below], taken[above]))
        assert low * (1 - 1e-9) <= one["seconds"] <= high * (1 + 1e-9)


def test_charts_offer_what_was_measured_and_no_more(tmp_path: Path) -> None:
    lines = [timed(cell("a", "predict", n, 32), 0, [1e-3]) for n in (16, 64)]
    findings = find(load(write_run(tmp_path / "run", lines=lines, trainings=[])))
    offered = charts.time([findings], ["run"])
    assert offered is not None
    assert charts.memory([findings], ["run"]) is charts.accuracy([findings], ["run"]) is None
    phase, batch = offered.choices
    assert [value for value, _ in phase.values] == ["predict"]
    assert batch.chosen == "32"
    assert offered.heads == ("a",)


def test_every_look_has_a_counterpart_in_the_charts() -> None:
    looks = drawing.styles([f"head {index}" for index in range(16)]).values()
    assert {look.marker for look in looks} <= documents.SYMBOLS.keys()
