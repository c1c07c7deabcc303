"""Verdicts on the published claims, on curves and accuracies whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.findings.claims import (
    CLAIMS,
    Verdict,
    check,
    judge_accuracy,
    judge_growth,
    judge_looks,
)
from reports.findings.findings import Findings, find
from reports.findings.growth import Growth, Order
from reports.results import load
from reports.stats import complexity
from reports.stats.estimates import Interval
from tests.reports.synthetic import cell, timed, training, write_run

SIZES = tuple(2**k for k in range(4, 19, 2))


def verdicts(findings: Findings) -> dict[str, Verdict]:
    return {claim.name: verdict for claim, verdict in check(findings)}


def steps(
    head: str, seconds: Callable[[int], float], counted: Callable[[int], float] | None = None
) -> list[dict[str, Any]]:
    """Training steps in three passes of six rounds with 1 % noise."""
    draw = np.random.default_rng(1)
    counted = counted or seconds
    return [
        timed(cell(head, "train", n, 128), k, seconds(n) * (1 + 0.01 * draw.standard_normal(6)))
        | {"multiply_adds": int(1e9 * counted(n)), "bytes": int(1e9 * counted(n))}
        for k in range(3)
        for n in SIZES
    ]


def judged(
    tmp_path: Path,
    lines: Iterable[dict[str, Any]] = (),
    trainings: Iterable[dict[str, Any]] = (),
) -> dict[str, Verdict]:
    return verdicts(find(load(write_run(tmp_path / "run", lines=lines, trainings=trainings))))


def linear(n: int) -> float:
    return 5e-5 + 1e-7 * n


def logarithmic(n: int) -> float:
    return 5e-5 + 2e-5 * float(np.log2(n))


def test_claims_are_supported_by_a_run_made_to_support_them(synthetic: Path) -> None:
    answers = {name: verdict.answer for name, verdict in verdicts(find(load(synthetic))).items()}
    assert answers == dict.fromkeys((claim.name for claim in CLAIMS), "supported")


@pytest.mark.parametrize(
    ("claim", "head", "seconds", "answer"),
    [
        ("softmax-linear", "softmax", linear, "supported"),
        ("softmax-linear", "softmax", lambda n: 1e-5 + 1e-9 * n**2, "contradicted"),
        ("gumbel-linear", "gumbel", linear, "supported"),
        ("gumbel-linear", "gumbel", logarithmic, "contradicted"),
        ("hierarchical-logarithmic", "hierarchical", logarithmic, "supported"),
        ("hierarchical-logarithmic", "hierarchical", lambda n: 1e-3, "supported"),
        ("hierarchical-logarithmic", "hierarchical", linear, "contradicted"),
    ],
)
def test_complexity_claim(
    tmp_path: Path, claim: str, head: str, seconds: Callable[[int], float], answer: str
) -> None:
    assert judged(tmp_path, steps(head, seconds))[claim].answer == answer


def test_count_that_the_clock_does_not_see_yet_leaves_a_bound_open(tmp_path: Path) -> None:
    lines = steps("hierarchical", logarithmic, counted=linear)
    assert judged(tmp_path, lines)["hierarchical-logarithmic"].answer == "inconclusive"


def test_evidence_is_of_three_kinds(tmp_path: Path) -> None:
    evidence = judged(tmp_path, steps("softmax", linear))["softmax-linear"].evidence
    kinds = {one.kind for one in evidence}
    assert {"counted multiply-adds", "counted bytes", "peak memory", "timed"} <= kinds


def test_heads_that_were_not_measured_are_not_tested(tmp_path: Path) -> None:
    found = judged(tmp_path, steps("adaptive", linear))
    assert {verdict.answer for verdict in found.values()} == {"not tested"}


@pytest.mark.parametrize(
    ("gumbel_seconds", "answer"),
    [(7.0, "supported"), (5.0, "supported"), (9.0, "contradicted")],
)
def test_epoch_claim(tmp_path: Path, gumbel_seconds: float, answer: str) -> None:
    trainings = [
        training("softmax", epoch_seconds=7.01),
        training("gumbel-normal", seed=1, epoch_seconds=gumbel_seconds),
    ]
    # The A/A pairs of the softmax give the noise floor that 7.0 against 7.01 s lies within.
    lines = [
        timed(cell("softmax", "train", n, 128, replica=replica), k, [1e-3 * (1 + noise)])
        for n in SIZES
        for k in range(3)
        for replica, noise in ((0, 0.0), (1, 0.02))
    ]
    assert judged(tmp_path, lines, trainings)["gumbel-epoch"].answer == answer


def test_published_variant_is_preferred_for_its_claim(tmp_path: Path) -> None:
    trainings = [training("gumbel", accuracy=0.5), training("gumbel-normal", accuracy=0.165)]
    verdict = judged(tmp_path, trainings=trainings)["gumbel-accuracy"]
    assert "gumbel-normal" in verdict.measured
    assert verdict.answer == "supported"


@pytest.mark.parametrize(
    ("config", "dataset", "reason"),
    [
        ({}, {"stand_in": True}, "Stand-in images"),
        ({}, {"train_images": 5_000}, "5000 training images"),
        ({}, {"name": "images in cats", "split": "test/"}, "images in cats instead of CIFAR-100"),
        ({"batch_size": 64}, {}, "batch size 64"),
        ({"optimizer": "AdamW"}, {}, "optimizer AdamW"),
    ],
)
def test_accuracy_of_another_set_up_is_compared_with_no_claim(
    tmp_path: Path, config: dict[str, object], dataset: dict[str, object], reason: str
) -> None:
    record = training("softmax", accuracy=0.23)
    record["config"] |= config
    record["dataset"] |= dataset
    verdict = judged(tmp_path, trainings=[record])["softmax-accuracy"]
    assert verdict.answer == "not tested"
    assert reason in verdict.because


def test_stand_in_images_of_the_run_are_compared_with_no_claim(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lines=[], dataset={"name": "noise", "stand_in": True})
    found = verdicts(find(load(run)))
    assert found["softmax-accuracy"].answer == found["gumbel-accuracy"].answer == "not tested"


def test_fewer_epochs_are_compared_with_no_claim(tmp_path: Path) -> None:
    verdict = judged(tmp_path, trainings=[training("softmax", epochs=1)])["softmax-accuracy"]
    assert verdict.answer == "not tested"


@pytest.mark.parametrize(
    ("found", "seeds", "answer"),
    [
        (Interval(0.222, 0.230, 0.238), 1, "supported"),
        (Interval(0.232, 0.240, 0.248), 1, "supported"),
        (Interval(0.242, 0.250, 0.258), 1, "inconclusive"),
        (Interval(0.242, 0.250, 0.258), 3, "inconclusive"),
        (Interval(0.272, 0.280, 0.288), 3, "contradicted"),
        (Interval(0.292, 0.300, 0.308), 1, "contradicted"),
    ],
)
def test_accuracy_verdict(found: Interval, seeds: int, answer: str) -> None:
    assert judge_accuracy(found, 0.23, seeds)[0] == answer


@pytest.mark.parametrize(
    ("seconds", "answers"),
    [
        (lambda n: 5e-5 + 1e-7 * n * (3 if n > 2**14 else 1), {"supported"}),
        (lambda n: max(1e-3, 1e-7 * n), {"supported"}),
        (lambda n: 5e-5 + 1e-6 * n**0.7, {"inconclusive"}),
        (lambda n: 5e-5 + 1e-8 * n**1.5, {"inconclusive", "contradicted"}),
    ],
)
def test_counts_settle_what_caches_bend_but_are_no_rubber_stamp(
    tmp_path: Path, seconds: Callable[[int], float], answers: set[str]
) -> None:
    lines = steps("softmax", seconds, counted=linear)
    assert judged(tmp_path, lines)["softmax-linear"].answer in answers


def widened(found: Interval, by: float) -> Interval:
    """The same estimate, the distances to its ends `by` times as large."""
    centre = found.estimate
    return Interval(centre - by * (centre - found.low), centre, centre + by * (found.high - centre))


INTERVALS = st.builds(
    lambda centre, below, above: Interval(centre - below, centre, centre + above),
    st.floats(0.5, 2),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
DECIDED = ("supported", "contradicted")


@given(st.lists(INTERVALS, min_size=1, max_size=3), st.floats(1, 20), st.floats(0, 1), st.data())
def test_wider_looks_never_decide_more(
    looks: list[Interval], by: float, floor: float, data: st.DataObject
) -> None:
    answer, _ = judge_looks(looks, floor)
    noisier = [widened(look, data.draw(st.floats(1, by))) for look in looks]
    after, _ = judge_looks(noisier, data.draw(st.floats(floor, 2)))
    assert after not in DECIDED or after == answer


@given(st.floats(0, 0.05), st.floats(0.1, 0.4), st.floats(1, 20), st.integers(1, 5))
def test_wider_accuracies_never_decide_more(
    reach: float, centre: float, by: float, seeds: int
) -> None:
    found = Interval(centre - reach, centre, centre + reach)
    answer, _ = judge_accuracy(found, 0.23, seeds)
    after, _ = judge_accuracy(widened(found, by), 0.23, seeds)
    assert after not in DECIDED or after == answer


@given(
    st.lists(st.floats(0.001, 1), min_size=7, max_size=7),
    st.floats(0, 1),
    st.sampled_from([*((model,) for model in complexity.MODELS), *complexity.APART, ()]),
    st.sampled_from(complexity.MODELS),
    st.sampled_from(complexity.MODELS),
    st.booleans(),
)
def test_less_certain_growth_never_decides_more(
    masses: list[float],
    flatter: float,
    within: tuple[str, ...],
    counted: str,
    claimed: str,
    at_most: bool,
) -> None:
    """Of what is certain more growths are left, and what is left of them is less probable."""
    growths = (*complexity.MODELS, complexity.POWER)
    certain = {model: mass / sum(masses) for model, mass in zip(growths, masses, strict=True)}
    uncertain = {model: (1 - flatter) * p + flatter / 7 for model, p in certain.items()}
    exact = complexity.classify(SIZES, [[float(n)] for n in SIZES])

    def answer(left: tuple[str, ...], probabilities: dict[str, float]) -> str:
        named = left[0] if len(left) == 1 else "inconclusive"
        either = left if len(left) > 1 else ()
        verdict = replace(exact, model=named, either=either, probabilities=probabilities)
        order = Order(counted, 0)
        growth = Growth("some", "train", order, order, None, verdict)
        return judge_growth(growth, claimed, at_most=at_most)[0]

    first = answer(within, certain)
    wider = [pair for pair in complexity.APART if set(within) < set(pair)] if within else []
    for noisier in (within, *wider):
        after = answer(noisier, uncertain)
        assert after not in DECIDED or after == first or not within


@pytest.mark.parametrize(
    ("claimed", "at_most", "answer"),
    [
        ("O(n)", False, "inconclusive"),
        ("O(n)", True, "inconclusive"),
        ("O(n log n)", True, "supported"),
        ("O(log n)", True, "contradicted"),
        ("O(n^2)", False, "contradicted"),
    ],
)
def test_two_growths_decide_what_both_decide(claimed: str, at_most: bool, answer: str) -> None:
    exact = complexity.classify(SIZES, [[float(n)] for n in SIZES])
    probable = {model: 0.5 * (model in complexity.APART[1]) for model in exact.probabilities}
    verdict = replace(
        exact, model="inconclusive", either=complexity.APART[1], probabilities=probable
    )
    order = Order("O(n)", 0)
    growth = Growth("some", "train", order, order, None, verdict)
    assert judge_growth(growth, claimed, at_most=at_most)[0] == answer


BENT = {
    "linear": linear,
    "plateau": lambda n: max(1e-3, 1e-7 * n),
    "logarithmic": logarithmic,
    "constant": lambda n: 1e-3,
    "zigzag": lambda n: linear(n) * (1.4 if int(np.log2(n)) % 4 else 1),
    "power": lambda n: 5e-5 + 1e-6 * n**0.7,
}
AROUND = np.linspace(-1, 1, 3)
"""Passes, and rounds of a pass, lie evenly around what they would be without noise: however wide
they are drawn, the estimates stay."""


def widened_run(
    folder: Path, curves: tuple[str, str, str], gumbel: float, accuracy: float, noise: float
) -> Path:
    """A run whose estimates depend on all but the `noise`, a relative one of every kind of cell."""

    def passes(where: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
        wide = noise * (8 if int(np.log2(where["classes"])) % 4 else 1)
        return [
            timed(where, k, seconds * np.exp(wide * (apart + AROUND / 3)))
            for k, apart in enumerate(AROUND)
        ]

    heads = dict(zip(("softmax", "gumbel", "hierarchical"), curves, strict=True))
    lines = [
        line
        for head, curve in heads.items()
        for n in SIZES
        for line in passes(cell(head, "train", n, 128), BENT[curve](n))
    ]
    for head, times in (("softmax", 1.0), ("gumbel", gumbel)):
        where = cell(head, "train", 256, 32, scope="in-model", features=640)
        lines += passes(where, 9e-3 * times)
    trainings = []
    for head, times in (("softmax", 1.0), ("gumbel", gumbel)):
        record = training(head, epoch_seconds=7.0)
        for epoch, apart in zip(record["epochs"], np.linspace(-1, 1, 10), strict=True):
            epoch["train_seconds"] = 7.0 * times * float(np.exp(noise * apart))
        # Accuracies err less the more test images there are.
        images = 40 if noise > 0.1 else 1_000
        hits = round(images * accuracy)
        record["final"]["confusion"] = (
            hits * np.eye(10, dtype=int) + (images - hits) * np.roll(np.eye(10, dtype=int), 1, 0)
        ).tolist()
        trainings.append(record)
    return write_run(folder, lines=lines, trainings=trainings)


@settings(max_examples=6, deadline=None)
@given(
    st.tuples(*[st.sampled_from(sorted(BENT))] * 3),
    st.sampled_from([0.8, 1.0, 1.01, 1.3]),
    st.sampled_from([0.15, 0.2, 0.25, 0.3]),
    st.floats(0.001, 0.03),
    st.floats(1, 10),
)
def test_more_noise_never_decides_more_of_any_claim(
    curves: tuple[str, str, str], gumbel: float, accuracy: float, noise: float, by: float
) -> None:
    with TemporaryDirectory() as folder:
        quiet, noisy = (
            verdicts(find(load(widened_run(Path(folder) / name, curves, gumbel, accuracy, width))))
            for name, width in (("quiet", noise), ("noisy", noise * by))
        )
    assert quiet.keys() == {claim.name for claim in CLAIMS}
    for name, after in noisy.items():
        assert after.answer not in DECIDED or after.answer == quiet[name].answer, name


def test_noise_does_not_support_a_claim() -> None:
    # Two heads trained minutes apart, and the interleaved steps, on a day with a floor of 92 %.
    looks = [Interval(0.60, 0.78, 1.01), Interval(0.16, 0.63, 2.47)]
    assert judge_looks(looks, 0.917)[0] == "inconclusive"
    assert judge_looks([Interval(0.97, 1.0, 1.02)], 0.917)[0] == "supported"
