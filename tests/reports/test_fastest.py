"""The map of fastest heads decides where the noise lets it, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.findings.answer import sentences
from reports.findings.fastest import fastest
from reports.findings.findings import find
from reports.findings.joined import Cell
from reports.results import load
from reports.stats import estimates
from reports.stats.estimates import Interval, NoiseFloor, Scatter
from reports.stats.paired import Known, LocalFloor
from tests.reports.synthetic import BATCHES, CLASSES, CURVES, HEADS

KNOWN = Scatter(1e-4, 100)


def floor(share: float) -> tuple[LocalFloor]:
    exactly = Interval(share, share, share)
    return (LocalFloor((0.0, 1.0), NoiseFloor(exactly, exactly, 100, 5)),)


def measured(head: str, seconds: float) -> Cell:
    samples = tuple(np.full(5, seconds * (1 + 0.005 * k)) for k in (-1, 0, 1))
    return Cell(
        *("isolated", head, "train", 64, 32, 128, "float32", "cpu", 1, 0),
        samples=samples,
        seconds=estimates.median(samples, KNOWN),
    )


def test_clear_winner_is_named_with_its_lead() -> None:
    (found,) = fastest([measured("slow", 3e-3), measured("fast", 1e-3)], Known(KNOWN), floor(0.05))
    assert found.head == "fast"
    assert found.decided
    assert found.lead is not None
    assert found.lead.estimate == pytest.approx(3.0)


def test_difference_within_the_noise_floor_is_not_decided() -> None:
    cells = [measured("slow", 3e-3), measured("a", 1e-3), measured("b", 1.04e-3)]
    (found,) = fastest(cells, Known(KNOWN), floor(0.10))
    assert found.rivals == ("b",)


def test_what_is_the_same_code_is_equal_whatever_noise_says() -> None:
    copy = replace(measured("gumbel", 1.2e-3), same_as="softmax")
    cells = [measured("slow", 3e-3), measured("softmax", 1e-3), copy]
    (found,) = fastest(cells, Known(KNOWN), floor(0.05))
    assert (found.head, found.equals, found.rivals) == ("softmax", ("gumbel",), ())
    assert found.lead is not None
    assert found.lead.estimate == pytest.approx(3.0)
    (alone,) = fastest([copy, measured("slow", 3e-3)], Known(KNOWN), floor(0.05))
    assert (alone.head, alone.equals) == ("gumbel", ())


def test_head_without_rivals_wins_without_a_lead() -> None:
    (found,) = fastest([measured("only", 1e-3)], Known(KNOWN), floor(0.1))
    assert found.decided
    assert found.lead is None


def test_map_agrees_with_the_curves_it_was_drawn_from(synthetic: Path) -> None:
    found = {(f.classes, f.batch): f for f in find(load(synthetic)).fastest("train")}
    assert len(found) == len(CLASSES) * len(BATCHES)
    for (classes, batch), one in found.items():
        ranked = sorted(HEADS, key=lambda head: CURVES[head](classes, batch))
        assert one.head == ranked[0] or ranked[0] in one.rivals


def test_answer_names_the_fastest_at_both_ends(synthetic: Path) -> None:
    first = sentences(find(load(synthetic)))[0]
    assert first.startswith("Training step, batch 128: softmax up to ")
    assert first.endswith("hierarchical from 262,144 classes on.")
