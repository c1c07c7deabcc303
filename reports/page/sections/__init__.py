"""What a page consists of: a module per section, its template beside it, and here their order.

A section is a module that fulfils `Section`. A new one is that module, its template and a line in
one of the two registries below; contents, page and tests take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from reports.findings.findings import Findings
from reports.findings.side_by_side import LetteredRun
from reports.page.figures.drawing import Looks
from reports.page.sections import (
    accuracy,
    adviser,
    answer,
    cells,
    claims,
    clocks,
    cost,
    heads,
    memory,
    method,
    missing,
    model,
    modes,
    operators,
    phases,
    races,
    roofline,
    scaling,
    training,
    words,
    workloads,
)
from reports.page.sections.side_by_side import accuracy as accuracies
from reports.page.sections.side_by_side import answers, curves, data, machines, ratios
from reports.page.sections.side_by_side import memory as memories
from reports.page.sections.side_by_side import words as vocabularies

Shown = TypeVar("Shown", contravariant=True)


class Part(Protocol[Shown]):
    """A module with a template beside it.

    Attributes:
        NAME: of the template, and of a section's anchor in the page.
    """

    __name__: str
    NAME: str

    def context(self, shown: Shown, looks: Looks, /) -> Mapping[str, Any] | None:
        """What the template prints, beside what every section of the page may use.

        None where there is nothing to show, and the page is to have no such section.

        Args:
            shown: what the page is about.
            looks: style of each head and variant in it.
        """
        ...


class Section(Part[Shown], Protocol[Shown]):
    """A module that shows one thing under a title, which stands in the contents as well."""

    TITLE: str


OF_A_RUN: tuple[Section[Findings], ...] = (
    answer,
    workloads,
    adviser,
    heads,
    claims,
    cost,
    phases,
    clocks,
    modes,
    scaling,
    memory,
    accuracy,
    words,
    training,
    model,
    races,
    operators,
    roofline,
    method,
    missing,
    cells,
)
"""The page of one run, in the order of a reader's questions."""

SIDE_BY_SIDE: tuple[Section[Sequence[LetteredRun]], ...] = (
    answers,
    curves,
    ratios,
    memories,
    accuracies,
    vocabularies,
    machines,
    data,
)
"""The page of several runs."""
