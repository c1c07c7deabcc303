"""The oracles: one is the power of a test, the other Bayes' rule; both against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import oracle, simulation
from reports.families import FAMILIES, Truth, draw
from reports.oracle import LEVEL, Asked, Known, named, power
from reports.stats.complexity import POWER, growth
from reports.stats.fit import NEAR, fit

SIZES = np.geomspace(64, 64_000, 8).round()
LINEAR = 1 + 20 * SIZES / SIZES[-1]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.002, 1), st.floats(1.1, 10))
def test_more_error_never_tells_more(error: float, more: float) -> None:
    told = [power(SIZES, LINEAR, "O(n)", error * factor) for factor in (1, more)]
    assert LEVEL <= told[1] <= told[0] <= 1


def test_what_another_growth_imitates_is_told_no_oftener_than_it_is_called_falsely() -> None:
    rising_late = np.maximum(1, 4 * growth("O(n^2)", SIZES) / SIZES[-1] ** 2)
    assert power(SIZES, rising_late, "O(n^2)", 0.03) < 2 * LEVEL
    assert power(SIZES, LINEAR, "O(n)", 1e-3) == pytest.approx(1)


def test_without_dearer_classes_less_imitates_a_curve() -> None:
    quadratic = 1 + 50 * growth("O(n^2)", SIZES) / SIZES[-1] ** 2
    granted, refused = (power(SIZES, quadratic, "O(n^2)", 0.03, step) for step in (5, 1.01))
    assert granted < refused


def test_power_is_that_of_the_likelihood_ratio_test_against_the_nearest_curve() -> None:
    """Points are drawn around both curves: the level is kept around one, and power is seen."""
    error = 0.05
    fits = fit(SIZES, np.log(LINEAR), (), 5.0)
    of_n = (fits.curves.models == "O(n)") | (
        np.isin(fits.curves.powers, NEAR) & (fits.curves.models == POWER)
    )
    blocks = np.where(of_n, np.inf, fits.squares).argsort()[:200]
    true = np.log(LINEAR)
    rivals = [np.log(curve(SIZES)) for curve in fits.refit(blocks, np.tile(true, (200, 1)))]
    rival = min(rivals, key=lambda curve: float((true - curve).var()))
    noise = error * np.random.default_rng(0).standard_normal((100_000, SIZES.size))

    def ratios(points: np.ndarray) -> np.ndarray:
        """Logarithms of likelihood ratios, the unit of the points unknown."""
        apart = (points - rival, points - true)
        return np.subtract(*(((a - a.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) for a in apart))

    seen = np.mean(ratios(true + noise) > np.quantile(ratios(rival + noise), 1 - LEVEL))
    assert 0.05 < seen < 0.95
    assert power(SIZES, LINEAR, "O(n)", error) == pytest.approx(seen, abs=0.02)


def test_a_constant_is_told_from_what_grows_visibly() -> None:
    assert power(SIZES, np.ones_like(SIZES), "O(1)", 0.005) > 0.99
    assert power(SIZES, np.ones_like(SIZES), "O(1)", 0.5) < 0.05


KNOWN = Known.of(
    {
        "flat": lambda n, _: Truth("O(1)", np.ones_like(n)),
        "linear": lambda n, _: Truth("O(n)", 1 + 20 * n / n[-1]),
        "0.63": lambda n, _: Truth("O(n^0.63)", n**0.63),
        "0.71": lambda n, _: Truth("O(n^0.71)", n**0.71),
    },
    SIZES,
    25,
)


def test_the_posterior_is_bayes_rule_over_the_families() -> None:
    y, error = np.log(1 + 18 * SIZES / SIZES[-1]), 0.1
    missed = [
        ((y - y.mean() - np.log(f) + np.log(f).mean()) ** 2).sum()
        for f in (np.ones_like(SIZES), LINEAR, SIZES**0.63, SIZES**0.71)
    ]
    likelihoods = np.exp(-np.array(missed) / (2 * error**2))
    model, probability = KNOWN.posterior(7 + y, error)
    assert model == "O(n)"
    assert probability == pytest.approx(likelihoods[1] / likelihoods.sum(), rel=1e-4)


def test_without_knowledge_of_the_points_all_families_are_as_probable() -> None:
    model, probability = KNOWN.posterior(np.log(LINEAR), 1e3)
    assert model == "O(n^0.6)"  # Two of four families are near enough.
    assert probability == pytest.approx(0.5)


def test_the_surest_are_named_until_so_many_are_expected_to_be_wrong() -> None:
    chances = [0.999, 0.5, 1.0, 0.98, 0.99]
    asked = [Asked("f", "s", "right", "", 1.0, chance, "right") for chance in chances]
    assert named(asked) == {0, 2, 3, 4}  # 0 + 0.001 + 0.01 + 0.02 of 5 are less than 1 %
    assert named(asked[:2]) == {0}


def test_the_sizes_of_an_index_are_the_same_in_all_families() -> None:
    drawn = [draw(family, 3, 5).n.tolist() for family in FAMILIES]
    assert all(sizes == drawn[0] for sizes in drawn)


def test_tables_hold_all_families_and_shares_that_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "CURVES", 50)
    text = oracle.tables(1, 0, simulation.table)
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    shares = {row[0].strip(): row[1:] for row in rows}
    assert set(FAMILIES) < set(shares)
    assert sum(float(share) for share in shares["all"][:4]) == pytest.approx(100, abs=0.2)


def test_reasons_are_counted_without_their_numbers() -> None:
    kinds = {
        oracle._kind(f"{few} of 10 sizes have left the plateau, too few to tell how it grows{more}")
        for few, more in ((1, ""), (2, "; up to 4,096 it does not"))
    }
    assert kinds == {"... of ... sizes have left the plateau, too few to tell how it grows"}
    apart = "O(n^2) and about n^1.7 cannot be told apart: less than two decades of n"
    assert oracle._kind(apart) == "O(n^2) and another power cannot be told apart"
