"""Captured and compiled calls are shown beside eager ones, and why some were not possible."""

from __future__ import annotations

import pytest

from reports import units
from reports.findings.findings import Findings, find
from reports.findings.modes import in_modes, why_not
from reports.page import html
from reports.results import Cell, load
from tests.reports.synthetic import cell, missing, timed, write_run

SIZES = (64, 1_024, 16_384)
SHARE = {"eager": 1.0, "graph": 0.1, "compile": 0.5}
REASON = "cannot be captured: it waits <for> the device"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    lines = []
    for head, modes in {"softmax": SHARE, "hierarchical": {"eager": 1.0, "compile": 0.5}}.items():
        for mode in modes:
            for n in SIZES:
                for index in range(2):
                    where = cell(head, "train", n, 128, device="cuda", mode=mode)
                    seconds = [1e-3 * SHARE[mode] * wobble for wobble in (0.99, 1, 1.01)]
                    line = timed(where, index, seconds)
                    # The first pass has no count.
                    breaks = {"graph_breaks": 3} if mode == "compile" and index else {}
                    lines.append(line | breaks)
    alone = cell("softmax", "predict", 64, 128, device="cuda")
    lines.append(timed(alone, 0, [1e-3, 1e-3]))
    refused = cell("hierarchical", "train", 64, 128, device="cuda", mode="graph")
    lines.append(missing(refused, "skipped", REASON))
    folder = write_run(tmp_path_factory.mktemp("modes") / "run", lines=lines, trainings=[])
    return find(load(folder))


def test_a_call_is_shown_in_every_mode_that_it_was_measured_in(several):
    found = in_modes(several.as_read, several.alone, several.scatter)
    assert [(one.head, one.classes) for one in found] == [
        (head, n) for head in ("softmax", "hierarchical") for n in SIZES
    ]
    for one in found:
        assert set(one.loop) == set(SHARE) - ({"graph"} if one.head == "hierarchical" else set())
        for mode in one.loop:
            assert one.share(mode) == pytest.approx(SHARE[mode], rel=1e-3)
        assert one.graph_breaks == 3
    assert found[-1].share("graph") is None


def test_verdicts_and_answers_are_those_of_eager_calls(several):
    assert several.alone.mode == "eager"
    for one in several.alone_at("train"):
        assert one.seconds.estimate == pytest.approx(1e-3)
    assert [one.mode for one in several.settings] == ["eager", "compile", "graph"]


def test_what_was_not_possible_is_named_with_its_reason(several):
    assert why_not(several.run) == {"graph": {REASON: ["hierarchical train"]}}
    page = html.render(several)
    section = page[page.index('id="modes"') :]
    section = section[: section.index("</section>")]
    assert "hierarchical train: cannot be captured: it waits &lt;for&gt; the device" in section
    assert f"{units.share(SHARE['graph'])} of eager" in section
    assert "torch.compile" in section


def test_a_run_in_one_mode_has_nothing_to_compare(findings, page):
    assert in_modes(findings.as_read, findings.alone, findings.scatter) == ()
    assert "All calls were made in one mode." in page


def test_a_cell_of_an_older_run_is_eager():
    assert Cell.load(cell("softmax", "train", 64, 128)).mode == "eager"


@pytest.mark.parametrize("mode", ["graphs", 1, None])
def test_another_mode_is_refused(mode):
    with pytest.raises(ValueError, match="mode: expected eager or graph or compile"):
        Cell.load(cell("softmax", "train", 64, 128, mode=mode))


def test_a_part_of_a_call_has_no_mode_of_its_own():
    with pytest.raises(ValueError, match="mode: expected eager in phase backward, got graph"):
        Cell("isolated", "softmax", "backward", 64, 8, 16, mode="graph")
