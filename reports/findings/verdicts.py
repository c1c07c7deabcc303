"""A claim, and what a run says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from reports.findings.findings import Findings

Answer = Literal["supported", "contradicted", "inconclusive", "not tested"]

NOTHING = "—"


@dataclass(frozen=True)
class Evidence:
    """One piece: its kind, the figure, and how it reads."""

    kind: str
    figure: str
    reading: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a run says about a claim.

    Attributes:
        measured: the figure to put beside the published one.
        because: why the answer is what it is, in a sentence.
    """

    answer: Answer
    measured: str
    because: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A claim under test.

    Attributes:
        name: short and stable.
        statement: what is claimed.
        published: the figure or wording it was published with.
        method: which cells test it, and how.
        test: reads the verdict off a run's findings.
    """

    name: str
    statement: str
    published: str
    method: str
    test: Callable[[Findings], Verdict]
