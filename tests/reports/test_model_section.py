"""The head's part of a model's step is read between sizes, also where a bound is not known."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from reports.page.sections.model import _alone
from reports.stats.estimates import Interval

UNKNOWN = Interval(0.0, 1.0, math.inf)


def between(*seconds: Interval) -> Interval:
    cells = [
        SimpleNamespace(head="softmax", classes=n, seconds=one)
        for n, one in zip((64, 256), seconds, strict=True)
    ]
    findings: Any = SimpleNamespace(alone_at=lambda phase, batch: cells)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _alone(findings, "softmax", 128, 32)
    assert found
    return found


def test_it_is_the_geometric_mean_half_way() -> None:
    found = between(Interval(0.5, 1.0, 2.0), Interval(2.0, 4.0, 8.0))
    assert (found.low, found.estimate, found.high) == pytest.approx((1.0, 2.0, 4.0))


@pytest.mark.parametrize("other", [UNKNOWN, Interval(0.5, 1.0, 2.0)])
def test_beside_an_unknown_bound_it_is_unknown(other: Interval) -> None:
    for ends in ((UNKNOWN, other), (other, UNKNOWN)):
        found = between(*ends)
        assert (found.low, found.high) == (0.0, math.inf)
        assert found.estimate == pytest.approx(1.0)
