"""Figures for a paper or a README, apart from the page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from reports import units
from reports.findings import run_facts
from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings
from reports.findings.study import Study
from reports.findings.words import Words
from reports.page.figures import curves, drawing, study, training, words
from reports.page.sections import cost, memory

MOST_BESIDE = 3
"""Runs whose panels fit side by side."""


def beside(runs: Sequence[Findings]) -> Figure | None:
    """Several runs, a panel for each: how they learned words, else their heads' training steps.

    None where one has neither, or for many.
    """
    if len(runs) > MOST_BESIDE:
        return None
    looks = drawing.styles(list(dict.fromkeys(name for one in runs for name in one.run.names)))
    learned = sorted((Words(one) for one in runs), key=lambda one: one.classes)
    if all(one.curves for one in learned):
        whose = [f"{one.classes:,} words, {{}}" for one in learned]
        names = _told_apart(whose, [one.findings for one in learned])
        panels = dict(zip(names, (one.curves for one in learned), strict=True))
        return words.beside(panels, looks, "Next-word prediction with each head")
    lines = [cost.panels(findings).get("train", []) for findings in runs]
    if not all(lines):
        return None
    clocks = [f", {one.clock} time" if len(one.as_read.clocks) else "" for one in runs]
    whose = [f"{{}}{clock}, batch {one.batch}" for clock, one in zip(clocks, runs, strict=True)]
    steps = dict(zip(_told_apart(whose, runs), lines, strict=True))
    return curves.beside(steps, looks, "Training step of each head alone")


def _told_apart(titles: Sequence[str], runs: Sequence[Findings]) -> list[str]:
    """Titles with each run's machine in them, or its name where two are of one machine."""
    places = [run_facts.where(one.run.facts) or one.run.name for one in runs]
    filled = [title.format(place) for title, place in zip(titles, places, strict=True)]
    if len(set(filled)) == len(filled):
        return filled
    return [title.format(one.run.name) for title, one in zip(titles, runs, strict=True)]


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
    if learned := Words(findings).curves:
        figures["-perplexity"] = words.perplexity_against_time(learned, looks)
    if frontier := study.frontier(Study(findings).frontier, looks):
        figures["-frontier"] = frontier
    return figures
