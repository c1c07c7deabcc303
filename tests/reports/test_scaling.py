"""What a run on several ranks says: speed-up, efficiency, communication, and where it pays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.findings import scaling
from reports.findings.findings import Findings, find
from reports.findings.scaling import Scaling
from reports.page import html
from reports.page.sections import OF_A_RUN
from reports.results import Cell, load
from tests.reports.synthetic import (
    BATCHES,
    FEATURES,
    Cluster,
    cell,
    ranked,
    write_run,
)
from tests.reports.test_report import Page

CLASSES = (*(2**k for k in range(6, 17, 2)), 2**15)
FEW = CLASSES[2:5]

PAYING = Cluster(latency=1e-4, bandwidth=2e9, tree=True)
LOSING = Cluster(class_seconds=0.0, latency=1e-4, bandwidth=2e9)
"""Its work is the same on every rank."""


def found(folder: Path, lines: list[dict[str, object]], **facts: object) -> Findings:
    return find(load(write_run(folder, lines=lines, trainings=[], **facts)))


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Two heads on 1, 2 and 4 ranks."""
    lines = [
        *ranked(PAYING, (1, 2, 4), CLASSES),
        *ranked(LOSING, (1, 2), CLASSES, head="hierarchical"),
    ]
    return found(tmp_path_factory.mktemp("ranks") / "run", lines)


@pytest.fixture(scope="module")
def seen(on_ranks: Findings) -> Scaling:
    scaled = scaling.scaling(on_ranks)
    assert scaled
    return scaled


def test_the_usual_head_is_whole(on_ranks: Findings) -> None:
    """Though most cells are of several ranks."""
    assert on_ranks.alone
    assert on_ranks.alone.ranks == 1
    assert {one.ranks for one in on_ranks.alone_at("train")} == {1}
    assert [one.ranks for one in on_ranks.settings] == [1, 2, 4]


def test_speed_up_and_efficiency_are_those_of_the_cluster(seen: Scaling) -> None:
    rows = [row for row in seen.rows if row.cell.head == "softmax"]
    assert {row.cell.ranks for row in rows} == {2, 4}
    for row in rows:
        n, ranks, at = row.cell.classes, row.cell.ranks, (row.cell.phase, row.cell.batch)

        def seconds(classes: float, ranks: int, at: tuple[str, int] = at) -> float:
            return PAYING.seconds(at[0], int(classes), at[1], ranks)

        assert row.speedup
        assert row.efficiency
        speedup = seconds(n, 1) / seconds(n, ranks)
        assert row.speedup.estimate == pytest.approx(speedup, rel=0.06)
        assert row.efficiency.estimate == pytest.approx(speedup / ranks, rel=0.06)
        if n // ranks in CLASSES:
            assert row.weak
            weak = seconds(n // ranks, 1) / seconds(n, ranks)
            assert row.weak.estimate == pytest.approx(weak, rel=0.06)
        else:
            assert row.weak is None


def test_what_is_told_is_its_share_of_the_call(seen: Scaling) -> None:
    for row in seen.rows:
        if row.cell.head == "softmax":
            told = row.telling
            assert told
            place = row.cell.phase, row.cell.classes, row.cell.batch, row.cell.ranks
            share = PAYING.told(*place) / PAYING.seconds(*place)
            assert told.share.estimate == pytest.approx(share, rel=0.04)
            assert told.share.low < told.share.estimate < told.share.high
            assert told.collectives == told.counted_collectives == PAYING.collectives(place[0])
            assert told.bytes == told.counted_bytes > 0


def test_a_rank_holds_its_part(seen: Scaling) -> None:
    for row in seen.rows:
        assert row.memory
        assert row.memory.parameters == 4 * row.cell.classes * FEATURES // row.cell.ranks


def test_sharding_pays_where_the_curves_cross(seen: Scaling) -> None:
    """Two ranks save half of the classes' time, and pay for what they tell."""
    for one in seen.pays:
        place = one.where
        if place.head == "hierarchical":
            assert place.where.at is None
            assert place.where.reason.startswith("none in range: behind")
        elif one.ranks == 2:
            cost = PAYING.told(one.phase, 16, place.batch, 2)
            saved = PAYING.class_seconds * place.batch / 2 / (1 if one.phase == "train" else 3)
            assert place.where.at
            assert cost / saved in place.where.at
    assert {(one.where.head, one.ranks) for one in seen.pays} == {
        ("softmax", 2),
        ("softmax", 4),
        ("hierarchical", 2),
    }


def test_four_ranks_are_predicted_from_one_and_two(seen: Scaling) -> None:
    assert seen.fitted == (1, 2)
    checked = [one for one in seen.predicted if one.measured]
    assert {one.cell.ranks for one in checked} == {4}
    assert len(checked) >= len(CLASSES) * len(BATCHES) * 2
    right = [
        PAYING.seconds(one.cell.phase, one.cell.classes, one.cell.batch, 4) in one.seconds
        for one in checked
    ]
    assert sum(right) >= 0.85 * len(right)
    for one in checked:
        assert one.error is not None
        if one.cell.classes == max(CLASSES):
            assert abs(one.error) < 0.15
    [link] = seen.links.values()
    assert PAYING.latency in link.latency
    assert PAYING.bandwidth in link.bandwidth


@pytest.mark.parametrize("weak", [False, True])
def test_more_ranks_than_any_are_predicted(seen: Scaling, weak: bool) -> None:
    """Strong: all of the largest size; weak: as many classes for each rank as there were."""
    rows = [
        one
        for one in seen.predicted
        if one.weak == weak and one.cell.head == "softmax" and one.cell.classes >= max(CLASSES)
    ]
    assert {one.cell.ranks for one in rows} >= {8, 64, 512}
    right = []
    for one in rows:
        place = one.cell.phase, one.cell.classes, one.cell.batch
        right.append(PAYING.seconds(*place, one.cell.ranks) in one.seconds)
        assert one.efficiency
        base = one.cell.classes // (one.cell.ranks if weak else 1)
        ideal = PAYING.seconds(place[0], base, place[2], 1) / (1 if weak else one.cell.ranks)
        assert one.efficiency.estimate == pytest.approx(ideal / one.seconds.estimate, rel=0.05)
    assert sum(right) >= 0.85 * len(right)


def test_the_section_says_it(on_ranks: Findings) -> None:
    page = html.render(on_ranks)
    section = page[page.index('<section id="scaling"') :]
    section = section[: section.index("</section>")]
    assert 'href="#scaling"' in page
    assert section.count("<svg") == 2 * 2 + 2  # a speed-up per phase and ranks, two predictions
    for text in ("From how many classes on sharding pays", "none in range", "latency", "weak"):
        assert text in section
    assert "counted" in section
    names = [one.NAME for one in OF_A_RUN if one.NAME != "words"]
    assert [one["id"] for one in Page(page).all("section")] == names


def test_a_run_of_whole_heads_has_no_such_section(findings: Findings, page: str) -> None:
    assert scaling.scaling(findings) is None
    assert 'id="scaling"' not in page
    assert 'href="#scaling"' not in page


def test_the_first_screen_is_the_same_with_ranks(tmp_path: Path) -> None:
    lines = ranked(PAYING, (1, 2), FEW)
    whole = [line for line in lines if line["cell"]["ranks"] == 1]
    with_ranks, without = (
        html.render(found(tmp_path / name / "run", some))
        for name, some in (("ranks", lines), ("whole", whole))
    )

    def tables(page: str) -> int:
        answer = page[page.index('<section id="answer"') :]
        return answer[: answer.index("</section>")].count("<tr")

    assert tables(with_ranks) == tables(without)


def test_other_workloads_are_named(tmp_path: Path) -> None:
    lines = [
        *ranked(PAYING, passes=2),
        *ranked(PAYING, (1, 2), FEW, passes=2, dtype="bfloat16"),
    ]
    scaled = scaling.scaling(found(tmp_path / "run", lines))
    assert scaled
    assert {row.under for row in scaled.rows} == {"", "bfloat16"}


def test_without_what_was_told_there_are_times_and_no_prediction(tmp_path: Path) -> None:
    lines = [line for line in ranked(PAYING, classes=FEW) if line["kind"] != "communication"]
    scaled = scaling.scaling(found(tmp_path / "run", lines))
    assert scaled
    assert all(row.speedup and row.telling is None for row in scaled.rows)
    assert scaled.predicted == ()


def test_ranks_without_a_whole_head_have_no_speed_up(tmp_path: Path) -> None:
    findings = found(tmp_path / "run", ranked(PAYING, (2, 4), FEW))
    scaled = scaling.scaling(findings)
    assert scaled
    assert all(row.speedup is None and row.weak is None for row in scaled.rows)
    assert scaled.pays == ()
    assert scaled.fitted == (2,)
    assert 'id="scaling"' in html.render(findings)


def test_one_cell_on_two_ranks_is_enough_for_a_page(tmp_path: Path) -> None:
    lines = ranked(PAYING, (1, 2), (256,), (32,), passes=1)
    findings = found(tmp_path / "run", lines)
    scaled = scaling.scaling(findings)
    assert scaled
    assert len(scaled.rows) == 2
    assert 'id="scaling"' in html.render(findings)


def test_ranks_are_read_from_the_loop_where_the_device_did_not_see_them(tmp_path: Path) -> None:
    """A graph of one rank was replayed, of two none could be."""
    lines = ranked(PAYING, (1, 2), FEW, device="cuda")
    for n in FEW:
        for batch in BATCHES:
            where = cell("softmax", "train", n, batch, device="cuda", ranks=1)
            lines.append(_replayed(where, PAYING.seconds("train", n, batch, 1) / 3))
    findings = found(tmp_path / "run", lines)
    scaled = scaling.scaling(findings)
    assert scaled
    assert findings.clock == "device"
    assert scaled.clock == "loop"
    assert all(row.speedup for row in scaled.rows)


def _replayed(where: dict[str, object], seconds: float) -> dict[str, object]:
    return {
        "kind": "device",
        "status": "measured",
        "cell": where,
        "pass": 0,
        "written": "2026-01-01T00:00:00.000+00:00",
        "device_seconds": [seconds] * 6,
        "host_seconds": [seconds] * 6,
        "kernel_seconds": seconds,
        "launches": 9,
        "captured": True,
        "why_not": "",
    }


def test_a_line_that_is_not_as_the_format_says_is_left_out(tmp_path: Path) -> None:
    lines = ranked(PAYING, passes=1)
    told = next(line for line in lines if line["kind"] == "communication")
    told["sent"] = {"all_gather": -1}
    findings = found(tmp_path / "run", lines)
    assert any("sent" in one or "all_gather" in one for one in findings.run.warnings)


def test_an_older_line_knows_the_sum_alone(tmp_path: Path) -> None:
    lines = ranked(PAYING, classes=FEW)
    for line in lines:
        line.pop("sent", None)
    scaled = scaling.scaling(found(tmp_path / "run", lines))
    assert scaled
    assert all(row.telling and row.telling.bytes for row in scaled.rows)
    assert scaled.predicted == ()


def test_more_ranks_are_a_cell_of_their_own() -> None:
    one = json.loads(json.dumps(cell("softmax", "train", 64, 8)))
    assert Cell.load(one).ranks == 1
    with pytest.raises(ValueError, match="ranks: expected 1 in phase backward, got 2"):
        Cell.load(one | {"phase": "backward", "ranks": 2})
