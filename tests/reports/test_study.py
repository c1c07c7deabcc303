"""The study: variants compared in pairs, the ladder of defects, the frontier, and superclasses."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from reports import summary
from reports.findings.claims import check
from reports.findings.findings import find
from reports.findings.published import PUBLISHED
from reports.findings.study import LADDERS, Study, difference
from reports.findings.superclasses import chance_within, grouping, share_within
from reports.findings.trained import accuracy, by_variant, f1_over_seeds, macro_f1
from reports.page import html
from reports.results import Training, load
from tests.reports.synthetic import training, write_run

VARIANTS = dict.fromkeys(
    name for steps in LADDERS.values() for s in steps for name in (s.before, s.after)
)


def variant(name: str, head: str = "softmax", **others: Any) -> dict[str, Any]:
    """A record of a variant, which may share its head with others."""
    record = training(head, **others)
    return record | {"variant": name}


def studied(folder: Path, records: Sequence[dict[str, Any]], **facts: Any) -> Study:
    return Study(find(load(write_run(folder, lines=[], trainings=records, **facts))))


def seeded(name: str, accuracies: Sequence[float], **others: Any) -> list[dict[str, Any]]:
    return [variant(name, seed=k, accuracy=share, **others) for k, share in enumerate(accuracies)]


# --- grouping by variant ----------------------------------------------------------------------


def test_two_variants_of_one_head_stay_apart(tmp_path: Path) -> None:
    records = [*seeded("gumbel", [0.20, 0.22]), *seeded("gumbel-tuned", [0.38, 0.36])]
    study = studied(tmp_path / "run", records)
    found = {row.trained.variant: row.trained for row in study.rows}
    assert {name: row.seeds for name, row in found.items()} == {"gumbel": 2, "gumbel-tuned": 2}
    assert found["gumbel"].accuracy.estimate == pytest.approx(0.21)
    assert found["gumbel-tuned"].accuracy.estimate == pytest.approx(0.37)


def test_record_without_a_variant_is_named_as_its_head(tmp_path: Path) -> None:
    assert [
        row.trained.variant for row in studied(tmp_path / "run", [training("softmax")]).rows
    ] == ["softmax"]


def test_variants_keep_the_order_the_run_named_them_in(tmp_path: Path) -> None:
    records = [variant(name) for name in ("a", "b", "z")]
    options = {"sweep": {"trained": ["z", "a"], "heads": ["softmax"]}}
    assert studied(tmp_path / "run", records, options=options).findings.run.variants == (
        "z",
        "a",
        "b",
    )


def test_another_recipe_of_the_head_does_not_answer_a_published_claim(tmp_path: Path) -> None:
    study = studied(tmp_path / "run", seeded("softmax-tuned", [0.38]))
    verdicts = {claim.name: verdict.answer for claim, verdict in check(study.findings)}
    assert verdicts["softmax-accuracy"] == "not tested"


def test_published_figures_stand_beside_the_published_variants_only(tmp_path: Path) -> None:
    records = [variant(name) for name in ("softmax", "softmax-tuned", "gumbel-normal")]
    rows = studied(tmp_path / "run", records).rows
    assert {row.trained.variant: row.published for row in rows} == {
        "softmax": PUBLISHED["softmax"],
        "softmax-tuned": None,
        "gumbel-normal": PUBLISHED["gumbel-normal"],
    }


@pytest.mark.parametrize("fact", [{"stand_in": True}, {"split": "train/ and test/"}])
def test_other_images_stand_beside_no_published_figure(
    tmp_path: Path, fact: dict[str, object]
) -> None:
    record = variant("softmax")
    record["dataset"] |= fact
    assert studied(tmp_path / "run", [record]).rows[0].published is None


# --- paired differences -----------------------------------------------------------------------


def test_difference_is_the_paired_t_interval(tmp_path: Path) -> None:
    before, after = (0.20, 0.23, 0.26, 0.21), (0.22, 0.26, 0.27, 0.24)
    study = studied(tmp_path / "run", [*seeded("a", before), *seeded("b", after)])
    found = difference(study.seeds["a"], study.seeds["b"])
    assert found is not None
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert found.seeds == 4
    assert found.value.estimate == pytest.approx(np.mean(np.subtract(after, before)))
    assert (found.value.low, found.value.high) == pytest.approx((expected.low, expected.high))


def test_only_common_seeds_are_paired(tmp_path: Path) -> None:
    others = [variant("b", seed=k, accuracy=0.5) for k in (1, 2, 7)]
    study = studied(tmp_path / "run", [*seeded("a", [0.2, 0.3, 0.4]), *others])
    found = difference(study.seeds["a"], study.seeds["b"])
    assert found is not None
    assert found.seeds == 2
    assert found.value.estimate == pytest.approx(0.5 - 0.35)


def test_trainings_of_another_length_are_no_pair(tmp_path: Path) -> None:
    study = studied(tmp_path / "run", [variant("a", epochs=10), variant("b", epochs=3)])
    assert difference(study.seeds["a"], study.seeds["b"]) is None


def test_one_seed_bounds_nothing(tmp_path: Path) -> None:
    study = studied(tmp_path / "run", [*seeded("a", [0.2]), *seeded("b", [0.3])])
    found = difference(study.seeds["a"], study.seeds["b"])
    assert found is not None
    assert (found.value.low, found.value.high) == (-math.inf, math.inf)


def test_heads_are_compared_with_softmax_under_the_same_recipe(tmp_path: Path) -> None:
    accuracies = {"softmax": 0.24, "gumbel": 0.22, "softmax-tuned": 0.38, "gumbel-tuned": 0.375}
    records = [one for name, share in accuracies.items() for one in seeded(name, [share] * 2)]
    against = {r.trained.variant: r.against for r in studied(tmp_path / "run", records).rows}
    assert against["softmax"] is against["softmax-tuned"] is None
    assert against["gumbel"] is not None
    assert against["gumbel-tuned"] is not None
    assert against["gumbel"].value.estimate == pytest.approx(-0.02)
    assert against["gumbel-tuned"].value.estimate == pytest.approx(-0.005)


# --- the ladder -------------------------------------------------------------------------------


def test_ladder_has_a_rung_for_every_step_whose_ends_were_trained(tmp_path: Path) -> None:
    whole = studied(tmp_path / "whole", [variant(name) for name in VARIANTS])
    assert {name: [r.step for r in rungs] for name, rungs in whole.ladders.items()} == {
        name: list(steps) for name, steps in LADDERS.items()
    }
    part = studied(tmp_path / "part", [variant("gumbel-normal"), variant("gumbel-normal-log")])
    assert [len(rungs) for rungs in part.ladders.values()] == [1]
    assert not studied(tmp_path / "none", [variant("gumbel-normal")]).ladders


def test_steps_of_a_chain_add_up(tmp_path: Path) -> None:
    chain = ("hierarchical-padded", "hierarchical-on-logits", "hierarchical")
    records = [one for k, name in enumerate(chain) for one in seeded(name, [0.1 + k / 50] * 3)]
    (rungs,) = studied(tmp_path / "run", records).ladders.values()
    assert sum(r.difference.value.estimate for r in rungs) == pytest.approx(0.04)
    assert rungs[0].after == rungs[1].before


# --- the frontier -----------------------------------------------------------------------------


def test_frontier_holds_what_no_cheaper_head_reaches(tmp_path: Path) -> None:
    reached = {
        "a-tuned": (100, 0.20),
        "b-tuned": (200, 0.30),
        "c-tuned": (300, 0.25),
        "d": (1, 0.9),
    }
    records = [
        variant(name, accuracy=share) | {"head_multiply_adds": float(work)}
        for name, (work, share) in reached.items()
    ]
    points = studied(tmp_path / "run", records).frontier
    assert [(point.variant, point.ahead) for point in points] == [
        ("a-tuned", True),
        ("b-tuned", True),
        ("c-tuned", False),
    ]


def test_seconds_per_step_are_those_of_an_epoch_over_its_steps(tmp_path: Path) -> None:
    record = variant("a-tuned", epoch_seconds=7.0)
    record["config"]["batch_size"] = 64
    (point,) = studied(tmp_path / "run", [record]).frontier
    assert point.multiply_adds is None
    assert point.step_seconds is not None
    assert point.step_seconds.estimate == pytest.approx(7.0 / 782, rel=0.02)


# --- superclasses -----------------------------------------------------------------------------


@st.composite
def confusions(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    classes = draw(st.integers(2, 7))
    counts = st.lists(st.integers(0, 9), min_size=classes, max_size=classes)
    table = draw(st.lists(counts, min_size=classes, max_size=classes))
    groups = draw(st.lists(st.integers(0, classes - 1), min_size=classes, max_size=classes))
    return np.array(table), groups


@given(confusions())
def test_share_within_counts_the_errors_one_by_one(drawn: tuple[np.ndarray, list[int]]) -> None:
    table, groups = drawn
    errors = [
        groups[true] == groups[said]
        for (true, said), count in np.ndenumerate(table)
        if true != said
        for _ in range(count)
    ]
    assert share_within(table, groups) == pytest.approx(np.mean(errors) if errors else 0)


@given(confusions())
def test_order_by_superclass_is_a_permutation_whose_bounds_part_the_groups(
    drawn: tuple[np.ndarray, list[int]],
) -> None:
    _, groups = drawn
    order, bounds = grouping(groups)
    parts = np.split(np.asarray(groups)[order], bounds)
    assert sorted(order) == list(range(len(groups)))
    assert [len(set(part)) for part in parts] == [1] * len(set(groups))


def test_chance_on_cifar_100_is_4_in_99() -> None:
    table = np.random.default_rng(0).integers(0, 9, (100, 100))
    assert chance_within(table, [k // 5 for k in range(100)]) == pytest.approx(4 / 99)


def test_chance_is_what_errors_without_a_preference_come_to() -> None:
    groups = [0, 0, 0, 1, 1, 2]
    alike = 1000 * (1 - np.eye(6, dtype=int)) * np.arange(1, 7)[:, None]
    assert chance_within(alike, groups) == pytest.approx(share_within(alike, groups))


@pytest.mark.parametrize("groups", [None, [], [0, 0], [0, "1"] * 5, [99] * 10, "0101010101"])
def test_superclasses_that_do_not_fit_the_classes_are_none(tmp_path: Path, groups: object) -> None:
    record = variant("softmax")
    record["dataset"]["superclass_of"] = groups
    study = studied(tmp_path / "run", [record])
    assert study.findings.run.trainings[0].superclass_of is None
    assert not study.within


def test_a_head_that_confuses_within_superclasses_is_seen(tmp_path: Path) -> None:
    record = variant("softmax")
    table = 10 * np.eye(10, dtype=int) + 5 * np.kron(np.eye(5, dtype=int), np.ones((2, 2), int))
    record["final"]["confusion"] = table.tolist()
    record["dataset"]["superclass_of"] = [k // 2 for k in range(10)]
    (found,) = studied(tmp_path / "run", [record]).within
    assert found.share.estimate == 1
    assert found.chance == pytest.approx(1 / 9)


# --- intervals --------------------------------------------------------------------------------


def test_interval_of_f1_is_what_a_bootstrap_of_the_test_images_gives() -> None:
    table = np.array(training("softmax", accuracy=0.3)["final"]["confusion"])
    draws = np.random.default_rng(0).multinomial(table.sum(), table.ravel() / table.sum(), 2000)
    values = [macro_f1(drawn.reshape(table.shape)) for drawn in draws]
    found = f1_over_seeds([table])
    assert found.estimate == macro_f1(table)
    assert (found.high - found.estimate) / 1.96 == pytest.approx(np.std(values), rel=0.05)


def test_classes_that_never_occur_break_no_metric() -> None:
    found = f1_over_seeds([np.zeros((3, 3), int), np.diag([5, 0, 0])])
    assert found.low <= found.estimate <= found.high


# --- on the page ------------------------------------------------------------------------------


def page(study: Study) -> str:
    return html.render(study.findings)


def complete(folder: Path) -> Study:
    """Every variant of the ladders and two tuned ones, on classes with superclasses."""
    accuracies: Mapping[str, float] = {
        name: 0.1 + index / 100 for index, name in enumerate(VARIANTS)
    } | {"softmax": 0.24, "softmax-tuned": 0.38, "gumbel-tuned": 0.375}
    records = []
    for name, share in accuracies.items():
        for record in seeded(name, [share, share + 0.01]):
            record["dataset"]["superclass_of"] = [k // 2 for k in range(10)]
            records.append(record | {"head_multiply_adds": 1e5 * share})
    return studied(folder, records, options={"jobs": 2})


@pytest.fixture(scope="module")
def page_of_all(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(complete(tmp_path_factory.mktemp("study") / "results" / "run"))


@pytest.mark.parametrize(
    "said",
    [
        "The study, variant by variant",
        "published,<br>other machine:<br>61.13 s",
        "Trainings ran 2 at once",
        "What each defect costs",
        "loss in log space",
        "What a cheap head costs in accuracy",
        "Errors within the superclass",
        "lines part the superclasses",
    ],
)
def test_page_of_a_study_says(page_of_all: str, said: str) -> None:
    assert said in page_of_all


def test_every_part_appears_only_with_its_data(tmp_path: Path) -> None:
    text = page(studied(tmp_path / "run", [training("softmax")]))
    assert "The study, variant by variant" in text
    for part in (
        "What each defect costs",
        "What a cheap head costs",
        "Errors within",
        "time goes</h3>",
    ):
        assert part not in text


def test_same_study_gives_the_same_page(tmp_path: Path, page_of_all: str) -> None:
    assert page(complete(tmp_path / "results" / "run")) == page_of_all


def test_summary_names_no_variant_that_is_no_head(tmp_path: Path) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    summary.show(complete(tmp_path / "run").findings, Path("page.html"), console)
    assert "gumbel-tuned" not in console.export_text()


def test_records_of_before_the_study_are_read_as_they_were() -> None:
    folder = Path(__file__).parents[2] / "reports" / "reference" / "cpu"
    trainings: tuple[Training, ...] = load(folder).trainings
    assert [t.variant for t in trainings] == [t.head for t in trainings]
    for name, (seed,) in by_variant(trainings).items():
        record = json.loads((folder / "training" / f"{name}-seed0.json").read_text())
        assert seed.final is not None
        assert accuracy(seed.final.confusion) == pytest.approx(record["final"]["accuracy"])
