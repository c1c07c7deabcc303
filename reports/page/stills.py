"""Figures for a paper or a README, apart from the page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from reports import units
from reports.findings import run_facts
from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings
from reports.findings.study import Study
from reports.page.figures import curves, drawing, study, training
from reports.page.sections import cost, memory

MOST_BESIDE = 3
"""Runs whose panels fit side by side."""


def beside(runs: Sequence[Findings]) -> Figure | None:
    """The training step of several runs, a panel for each; None where one has none, or for many."""
    lines = [cost.panels(findings).get("train", []) for findings in runs]
    if not all(lines) or len(lines) > MOST_BESIDE:
        return None
    looks = drawing.styles(list(dict.fromkeys(name for one in runs for name in one.run.names)))
    places = [run_facts.where(one.run.facts) or one.run.name for one in runs]
    if len(set(places)) < len(places):  # two runs of one machine
        places = [one.run.name for one in runs]
    clocks = [f", {one.clock} time" if len(one.as_read.clocks) else "" for one in runs]
    panels = {
        f"{place}{clock}, batch {one.batch}": series
        for place, clock, one, series in zip(places, clocks, runs, lines, strict=True)
    }
    return curves.beside(panels, looks, "Training step of each head alone")


def stills(findings: Findings) -> dict[str, Figure]:
    """What follows the run's name in the file's -> figure."""
    looks = drawing.styles(findings.run.names)
    figures = {}
    if lines := cost.panels(findings):
        named = {PHASE_NAMES[phase]: series for phase, series in lines.items()}
        where = run_facts.where(findings.run.facts) or "unknown machine"
        title = f"Output heads alone, batch {findings.batch}, {where}"
        figures[""] = curves.overview(named, looks, title)
    if series := memory.series(findings, lambda used: used.total):
        figures["-memory"] = curves.against_classes(series, looks, "bytes", units.num_bytes)
    if reached := training.accuracy_against_time(findings.trained, looks):
        figures["-accuracy"] = reached
    if frontier := study.frontier(Study(findings).frontier, looks):
        figures["-frontier"] = frontier
    return figures
