"""Time against the number of classes: a chart, still figures, crossovers, and how it grows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reports import units
from reports.findings import claims, faults
from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings, Overtake, by_head
from reports.findings.growth import Growth, Order, reading
from reports.page import charts
from reports.page.figures import curves
from reports.page.figures.curves import Series
from reports.page.figures.drawing import Looks, Picture, picture
from reports.results import PHASES
from reports.units import Shown

NAME, TITLE = "cost", "Cost"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Figures and tables of the heads alone."""
    return {
        "time_chart": charts.time([findings], [findings.run.name]),
        "pictures": _pictures(findings, looks),
        "other_batches": _other_batches(findings, looks),
        "overtakes": _overtakes(findings),
        "growths": _growths(findings),
    }


def panels(findings: Findings) -> dict[str, list[Series]]:
    """Phase -> a line of seconds against classes per head, at the usual batch size."""
    lines = {phase: _series(findings, phase, findings.batch) for phase in PHASES}
    return {phase: series for phase, series in lines.items() if series}


def _pictures(findings: Findings, looks: Looks) -> list[Picture]:
    """A panel per phase, all on one scale."""
    lines = panels(findings)
    common = curves.axis_limits(one for series in lines.values() for one in series)
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
        drawn = curves.against_classes(
            series, looks, "seconds per batch", units.seconds, common, marks
        )
        pictures.append(picture(drawn, f"cost-{phase}", caption))
    return pictures


def _other_batches(findings: Findings, looks: Looks) -> list[Picture]:
    """The training step at every other batch size, points only."""
    batches = sorted({cell.batch for cell in findings.alone_at("train")} - {findings.batch})
    pictures = []
    for batch in batches:
        series = [replace(one, curve=None, note="") for one in _series(findings, "train", batch)]
        if series:
            drawn = curves.against_classes(series, looks, "seconds per batch", units.seconds)
            caption = f"Training step: time against number of classes, batch {batch}."
            pictures.append(picture(drawn, f"cost-train-{batch}", caption))
    return pictures


def _series(findings: Findings, phase: str, batch: int) -> list[Series]:
    fits = {g.head: g.time for g in findings.growths if g.phase == phase}
    series = []
    for head, cells in by_head(findings.alone_at(phase, batch)).items():
        fit = fits.get(head)
        points = [(cell.classes, cell.seconds) for cell in cells if cell.seconds]
        if points:
            series.append(
                Series(
                    head=head,
                    classes=[classes for classes, _ in points],
                    values=[seconds for _, seconds in points],
                    curve=fit.curve if fit is not None and fit.within else None,
                    note=fit.said if fit is not None and fit.within else "",
                )
            )
    return series


def _overtakes(findings: Findings) -> list[dict[str, Any]]:
    """Per phase a table: a row per head, a column per batch size."""
    tables = []
    for phase in ("train", "predict"):
        cells = {(o.head, o.batch): place(o) for o in findings.overtakes(phase)}
        if cells:
            tables.append(
                {
                    "phase": phase,
                    "heads": list(dict.fromkeys(head for head, _ in cells)),
                    "batches": sorted({batch for _, batch in cells}),
                    "cells": cells,
                }
            )
    return tables


def place(overtake: Overtake) -> Shown:
    """The class count and, in small print, its interval or why there is none."""
    at = overtake.where.at
    if at is None:
        return Shown("none in range", overtake.where.reason.removeprefix("none in range: "))
    bracket = units.count_interval(at, *overtake.sizes)
    return Shown(f"about {units.digits(at.estimate, 2)}", bracket)


def _growths(findings: Findings) -> dict[str, list[Any]]:
    """Per head, for each phase: the evidence in a row, and how it reads together."""
    heads: dict[str, list[Any]] = {}
    for growth in findings.growths:
        said = f"{reading(growth)} {faults.reading(findings, growth.head, growth.phase)}".strip()
        heads.setdefault(growth.head, []).append((growth.phase, _orders(growth), said))
    return heads


def _orders(growth: Growth) -> dict[str, Shown]:
    """Per kind of evidence the growth and, in small print, what qualifies it."""

    def counted(order: Order | None) -> Shown:
        if order is None:
            return Shown("—")
        return Shown(order.model, f"from {order.since:,} classes on" if order.since else "")

    time = growth.time
    return {
        "multiply_adds": counted(growth.multiply_adds),
        "bytes": counted(growth.bytes),
        "memory": counted(growth.memory),
        "time": Shown(time.said, claims.probability(time)) if time else Shown("—"),
        "exponent": claims.exponent(time) if time else Shown("—"),
    }
