"""A run's page: what each section says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports import units
from reports.findings import adviser, answer, claims, pareto, races, roofline, run_facts
from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings, Overtake
from reports.findings.growth import Growth, Order, reading
from reports.findings.joined import Cell, Memory
from reports.findings.notices import notices
from reports.findings.study import Study
from reports.page import (
    charts,
    drawing,
    figures,
    layout,
    study_figures,
    study_page,
    training_figures,
    training_page,
)
from reports.page.drawing import Style
from reports.page.figures import Series
from reports.results import PHASES, traces
from reports.stats.estimates import Interval

# The sections of the page in the order of a reader's questions: the name of the partial template
# (and of the section's anchor) and its title in the contents. A new section is a line here, a
# template of that name, and an entry in `_context`.
SECTIONS = (
    ("answer", "Answer"),
    ("adviser", "Your size"),
    ("heads", "Heads"),
    ("claims", "Claims"),
    ("cost", "Cost"),
    ("memory", "Memory"),
    ("accuracy", "Accuracy against cost"),
    ("training", "Training"),
    ("model", "In the model"),
    ("search", "Search"),
    ("operators", "Operators"),
    ("roofline", "Roofline"),
    ("method", "Method and machine"),
    ("missing", "What is missing"),
    ("cells", "All cells"),
)

TOP_OPERATORS = 10


def render(findings: Findings) -> str:
    """The page of one run. The same findings give the same text."""
    looks = drawing.styles(findings.run.names)
    return layout.fill_in(
        header="header.html.j2",
        sections=SECTIONS,
        title=findings.run.name,
        document=charts.document([findings], looks, [findings.run.name]),
        context=_context(findings, looks),
    )


def stills(findings: Findings) -> dict[str, Figure]:
    """Figures for a paper or a README: what follows the run's name in the file's -> figure."""
    looks = drawing.styles(findings.run.names)
    found = {}
    if lines := panels(findings):
        named = {PHASE_NAMES[phase]: series for phase, series in lines.items()}
        where = run_facts.where(findings.run.facts) or "unknown machine"
        title = f"Output heads alone, batch {findings.batch}, {where}"
        found[""] = figures.overview(named, looks, title)
    if steps := [cell for cell in findings.alone_at("train", findings.batch) if cell.memory]:
        series = _exact_series(steps, lambda memory: memory.total)
        found["-memory"] = figures.against_classes(series, looks, "bytes", units.num_bytes)
    if findings.trained:
        found["-accuracy"] = training_figures.accuracy_against_time(findings.trained, looks)
    if frontier := study_figures.frontier(Study(findings).frontier, looks):
        found["-frontier"] = frontier
    return found


def _context(findings: Findings, looks: Mapping[str, Style]) -> dict[str, Any]:
    run = findings.run
    return {
        "run": run,
        "facts": run.facts,
        "machine": run_facts.mapping(run.facts.get("machine")),
        "options": run_facts.options(run.facts),
        "dataset": run_facts.mapping(run.facts.get("dataset")),
        "looks": looks,
        "findings": findings,
        "phase_names": PHASE_NAMES,
        "notices": notices(findings),
        "answers": answer.sentences(findings),
        "adviser": adviser.page(findings),
        "maps": _maps(findings),
        "claims": claims.check(findings),
        "costs": _costs(findings, looks),
        "other_batches": _other_batches(findings, looks),
        "overtakes": _overtakes(findings),
        "growths": _growths(findings),
        "memory": _memory(findings, looks),
        "training": training_page.context(findings, looks),
        "study": study_page.context(findings, looks),
        "in_model": _in_model(findings, looks),
        "operators": _operators(findings),
        "searches": races.context(run),
        "roofline": roofline.roofline(findings, looks),
        "missing": _missing(run.missing),
        "cells": findings.cells,
        "charts": charts.charts([findings], [findings.run.name]),
        "pareto": training_page.accuracy_against_time(findings, looks),
        "joined": pareto.joined(findings),
        "costs_of_accuracy": pareto.COSTS,
    }


# --- where which head is fastest --------------------------------------------------------------


def _maps(findings: Findings) -> list[dict[str, Any]]:
    """Per phase a table: rows of class counts, columns of batch sizes."""
    maps = []
    for phase in ("train", "predict"):
        found = {(f.classes, f.batch): f for f in findings.fastest(phase)}
        if found:
            maps.append(
                {
                    "phase": phase,
                    "batches": sorted({batch for _, batch in found}),
                    "rows": sorted({classes for classes, _ in found}),
                    "cells": found,
                }
            )
    return maps


# --- cost and memory against the number of classes --------------------------------------------


def panels(findings: Findings) -> dict[str, list[Series]]:
    """Phase -> a line of seconds against classes per head, at the usual batch size."""
    found = {phase: _timed_series(findings, phase, findings.batch) for phase in PHASES}
    return {phase: series for phase, series in found.items() if series}


def _costs(findings: Findings, looks: Mapping[str, Style]) -> list[layout.Picture]:
    """A panel per phase, all on one scale."""
    lines = panels(findings)
    common = figures.axis_limits(one for series in lines.values() for one in series)
    pictures = []
    for phase, series in lines.items():
        marks = {
            o.head: o.where.at
            for o in findings.overtakes(phase)
            if o.batch == findings.batch and o.certain and o.where.at
        }
        caption = f"{PHASE_NAMES[phase]}: time against number of classes, batch {findings.batch}."
        if marks:
            caption += f" Marks on the axis: where a head overtakes {findings.incumbent}."
        drawn = figures.against_classes(
            series, looks, "seconds per batch", units.seconds, common, marks
        )
        pictures.append(layout.picture(drawn, f"cost-{phase}", caption))
    return pictures


def _other_batches(findings: Findings, looks: Mapping[str, Style]) -> list[layout.Picture]:
    """The training step at every other batch size, points only."""
    batches = sorted({cell.batch for cell in findings.alone_at("train")} - {findings.batch})
    pictures = []
    for batch in batches:
        series = [
            replace(one, curve=None, note="") for one in _timed_series(findings, "train", batch)
        ]
        if series:
            drawn = figures.against_classes(series, looks, "seconds per batch", units.seconds)
            caption = f"Training step: time against number of classes, batch {batch}."
            pictures.append(layout.picture(drawn, f"cost-train-{batch}", caption))
    return pictures


def _overtakes(findings: Findings) -> list[dict[str, Any]]:
    """Per phase a table: a row per head, a column per batch size."""
    tables = []
    for phase in ("train", "predict"):
        found = {(o.head, o.batch): _overtake(o) for o in findings.overtakes(phase)}
        if found:
            tables.append(
                {
                    "phase": phase,
                    "heads": list(dict.fromkeys(head for head, _ in found)),
                    "batches": sorted({batch for _, batch in found}),
                    "cells": found,
                }
            )
    return tables


def _overtake(found: Overtake) -> tuple[str, str]:
    """The class count and, in small print, its interval or why there is none."""
    at = found.where.at
    if at is None:
        return "none in range", found.where.reason.removeprefix("none in range: ")
    smallest, largest = found.sizes
    low = f"{at.low:,.0f}" if at.low >= smallest else f"below {smallest:,}"
    high = f"{at.high:,.0f}" if at.high <= largest else f"above {largest:,}"
    return f"about {float(f'{at.estimate:.2g}'):,.0f}", f"[{low}, {high}]"


def _timed_series(findings: Findings, phase: str, batch: int) -> list[Series]:
    fits = {g.head: g.time for g in findings.growths if g.phase == phase}
    series = []
    for head, cells in _by_head(findings.alone_at(phase, batch)).items():
        fit = fits.get(head)
        named = fit is not None and fit.model != "inconclusive"
        points = [(cell.classes, cell.seconds) for cell in cells if cell.seconds]
        if points:
            series.append(
                Series(
                    head=head,
                    classes=[classes for classes, _ in points],
                    values=[seconds for _, seconds in points],
                    curve=fit.curve if fit is not None and named else None,
                    note=fit.model if fit is not None and named else "",
                )
            )
    return series


def _by_head(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.head, []).append(cell)
    return groups


def _memory(findings: Findings, looks: Mapping[str, Style]) -> list[layout.Picture]:
    kinds: dict[str, tuple[Callable[[Memory], int], str]] = {
        "peak": (lambda memory: memory.peak, "peak of a training step above what was there before"),
        "total": (
            lambda memory: memory.total,
            "parameters, optimizer state and that peak together",
        ),
    }
    steps = [cell for cell in findings.alone_at("train", findings.batch) if cell.memory]
    return [
        layout.picture(
            figures.against_classes(_exact_series(steps, of), looks, "bytes", units.num_bytes),
            f"memory-{kind}",
            f"Memory: {what}, against number of classes, batch {findings.batch}.",
        )
        for kind, (of, what) in kinds.items()
        if steps
    ]


def _exact_series(cells: Iterable[Cell], of: Callable[[Memory], int]) -> list[Series]:
    """Byte counts: the interval of an exact figure is a point."""
    return [
        Series(
            head=head,
            classes=[cell.classes for cell in group],
            values=[Interval(v, v, v) for cell in group if cell.memory for v in [of(cell.memory)]],
        )
        for head, group in _by_head(cells).items()
    ]


def _growths(findings: Findings) -> dict[str, list[Any]]:
    """Per head, for each phase: the evidence in a row, and how it reads together."""
    heads: dict[str, list[Any]] = {}
    for growth in findings.growths:
        heads.setdefault(growth.head, []).append((growth.phase, _orders(growth), reading(growth)))
    return heads


def _orders(growth: Growth) -> dict[str, tuple[str, str]]:
    """Per kind of evidence the growth and, in small print, what qualifies it."""

    def counted(order: Order | None) -> tuple[str, str]:
        if order is None:
            return "—", ""
        return order.model, f"from {order.since:,} classes on" if order.since else ""

    time = growth.time
    return {
        "multiply_adds": counted(growth.multiply_adds),
        "bytes": counted(growth.bytes),
        "memory": counted(growth.memory),
        "time": (time.model, claims.probability(time)) if time else ("—", ""),
        "exponent": _two_lines(claims.exponent(time)) if time else ("—", ""),
    }


def _two_lines(shown: str) -> tuple[str, str]:
    """An estimate and its bracketed interval."""
    estimate, bracket, rest = shown.partition(" [")
    return estimate, bracket.strip() + rest


# --- in the model -----------------------------------------------------------------------------


def _in_model(findings: Findings, looks: Mapping[str, Style]) -> dict[str, Any] | None:
    """The training step of TinyVGG per head, and the part of it that the head alone would take."""
    batches = sorted({cell.batch for cell in findings.cells if cell.scope == "in-model"})
    batch = claims.PUBLISHED_BATCH if claims.PUBLISHED_BATCH in batches else min(batches, default=0)
    steps = findings.in_model_at(batch)
    if not steps or findings.in_model is None:
        return None
    classes = steps[0].classes
    rows = [
        (step.head, step.seconds, _alone(findings, step.head, classes, batch))
        for step in steps
        if step.seconds
    ]
    caption = (
        f"Training step of TinyVGG with each head, {classes:,} classes, batch {batch}; hatched: "
        f"what the head takes alone."
    )
    return {
        "classes": classes,
        "batch": batch,
        "rows": [
            (head, whole, part, part.estimate / whole.estimate if part else None)
            for head, whole, part in rows
        ],
        "picture": layout.picture(figures.share_of_step(rows, looks), "in-model", caption),
        "features": (
            findings.alone.features if findings.alone else None,
            findings.in_model.features,
        ),
    }


def _alone(findings: Findings, head: str, classes: int, batch: int) -> Interval | None:
    """Seconds of the head's own training step, read between neighbours where not measured."""
    steps = [
        (cell.classes, cell.seconds)
        for cell in findings.alone_at("train", batch)
        if cell.head == head and cell.seconds
    ]
    if not steps or not steps[0][0] <= classes <= steps[-1][0]:
        return None
    n = np.log([size for size, _ in steps])

    def at(bounds: Sequence[float]) -> float:
        return float(np.exp(np.interp(np.log(classes), n, np.log(bounds))))

    return Interval(
        at([seconds.low for _, seconds in steps]),
        at([seconds.estimate for _, seconds in steps]),
        at([seconds.high for _, seconds in steps]),
    )


# --- the rest ---------------------------------------------------------------------------------


def _operators(findings: Findings) -> list[dict[str, Any]]:
    """The operators with the most self CPU time, per head with a trace."""
    found = []
    named = findings.run.traces
    order = [head for head in findings.run.heads if head in named]
    for head in dict.fromkeys([*order, *sorted(named)]):
        problems, read = [], []
        for path in named[head]:
            try:
                read.append(traces.operators(path))
            except ValueError as error:
                problems.append(f"{path.relative_to(findings.run.folder)}: {error}")
        merged = traces.merge(read)
        total = sum(operator.self_seconds for operator in merged)
        found.append(
            {
                "head": head,
                "rows": [
                    (o, o.self_seconds / total if total else 0.0) for o in merged[:TOP_OPERATORS]
                ],
                "total": total,
                "others": max(0, len(merged) - TOP_OPERATORS),
                "problems": problems,
            }
        )
    return found


def _missing(missing: pd.DataFrame) -> list[dict[str, Any]]:
    """Cells without figures: one line per status, reason and what it befell, passes joined."""
    where = ["kind", "status", "reason", "scope", "head", "pipeline", "classes", "batch"]
    return [
        {**dict(zip(where, place, strict=True)), "phases": ", ".join(dict.fromkeys(group["phase"]))}
        for place, group in _groups(missing, where)
    ]


def _groups(table: pd.DataFrame, by: list[str]) -> Iterable[tuple[Any, pd.DataFrame]]:
    return table.groupby(by, sort=False)
