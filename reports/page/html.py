"""A page is its sections, in the order of their registry, with the charts' data packed into it.

It is self-contained: no request to anywhere, light and dark, on screen and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings
from reports.findings.side_by_side import LETTERS, LetteredRun
from reports.page import document, templates
from reports.page.figures import drawing
from reports.page.figures.drawing import Looks
from reports.page.sections import OF_A_RUN, SIDE_BY_SIDE, Part, Section, Shown, header
from reports.page.sections.side_by_side import header as side_by_side_header


def render(findings: Findings) -> str:
    """The page of one run. The same findings give the same text."""
    run = findings.run
    looks = drawing.styles(run.names)
    data = document.document([findings], looks, [run.name], samples=not findings.summarised)
    shared = {"findings": findings, "run": run}
    return _page(findings, looks, header, OF_A_RUN, run.name, data, shared)


def render_side_by_side(runs: Sequence[Findings], addresses: Sequence[str], title: str) -> str:
    """One page that puts runs beside each other, the first one being what others are compared to.

    Args:
        runs: at least two, no more than there are letters.
        addresses: of each run's own page.
        title: of the page.
    """
    looks = drawing.styles(list(dict.fromkeys(name for f in runs for name in f.run.names)))
    lettered = list(map(LetteredRun, LETTERS, addresses, runs))
    data = document.document(runs, looks, LETTERS[: len(runs)], samples=False)
    return _page(
        lettered, looks, side_by_side_header, SIDE_BY_SIDE, title, data, {"runs": lettered}
    )


def _page(
    shown: Shown,
    looks: Looks,
    header: Part[Shown],
    sections: Sequence[Section[Shown]],
    title: str,
    data: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> str:
    """What `shared` holds, every section may print; what its own `context` returns, it alone."""
    common = {
        **shared,
        "looks": looks,
        "phase_names": PHASE_NAMES,
        "title": title,
        "document": document.pack(document.dumps(data)),
    }

    def fill_in(part: Part[Shown]) -> str:
        beside = part.__name__.removeprefix(f"{templates.PACKAGE}.").split(".")[:-1]
        template = "/".join([*beside, f"{part.NAME}.html.j2"])
        context = part.context(shown, looks)
        return "" if context is None else templates.fill_in(template, {**common, **context})

    return templates.fill_in(
        "assets/layout.html.j2",
        {
            "title": title,
            "header": fill_in(header),
            "sections": [(one.NAME, one.TITLE, text) for one in sections if (text := fill_in(one))],
            **templates.scripts(),
        },
    )
