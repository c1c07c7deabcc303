"""The study as the page shows it: tables ready to print, and the figures as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports import units
from reports.findings.findings import Findings
from reports.findings.step_time import Growing
from reports.findings.study import Study
from reports.page import layout, study_figures
from reports.page.drawing import Style


def context(findings: Findings, looks: Mapping[str, Style]) -> dict[str, Any] | None:
    """What `study.html.j2` prints; None where the run holds nothing of the study.

    Args:
        findings: a run.
        looks: style of each of `Run.names`.
    """
    study = Study(findings)
    if study.empty:
        return None
    return {
        "rows": study.rows,
        "published": any(row.published for row in study.rows),
        "compared": any(row.against for row in study.rows),
        "points": study_figures.points,
        "at_once": _at_once(findings),
        "ladders": {
            name: {
                "rungs": rungs,
                "picture": layout.picture(
                    study_figures.ladder(rungs),
                    f"ladder-{index}",
                    f"{name}: what each step changes in test accuracy. Gains are filled, losses "
                    "hatched; the whisker is the interval of the paired difference.",
                ),
            }
            for index, (name, rungs) in enumerate(study.ladders.items())
        },
        "frontier": _frontier(study, looks),
        "within": study.within,
        "parts": _parts(study),
        "growing": [(one, _half(one)) for one in study.growing],
        "share": _share(study, looks),
        "pipelines": [
            (one, units.times_interval(one.speedup) if one.speedup else "—")
            for one in study.pipelines
        ],
    }


def _at_once(findings: Findings) -> int:
    """How many trainings ran at once, which their seconds depend on."""
    options = findings.run.facts.get("options")
    jobs = options.get("jobs") if isinstance(options, dict) else None
    return jobs if isinstance(jobs, int) else 1


def _frontier(study: Study, looks: Mapping[str, Style]) -> dict[str, Any] | None:
    points = study.frontier
    if not points:
        return None
    picture = None
    if figure := study_figures.frontier(points, looks):
        picture = layout.picture(
            figure,
            "frontier",
            "Test accuracy against what the head computes. Filled: no head at its left reaches as "
            "much; the line joins these.",
        )
    return {"points": points, "picture": picture}


def _parts(study: Study) -> dict[str, Any] | None:
    """The splits at the smallest class count as a figure; in tables all of them."""
    if not study.splits:
        return None
    least = min(split.classes for split in study.splits)
    shown = [split for split in study.splits if split.classes == least]
    caption = f"Where a training step of TinyVGG goes with each head, {least:,} classes."
    if any(split.limit is not None for split in shown):
        caption += " The mark is where it would end if only the arithmetic took time, at the peak."
    return {
        "picture": layout.picture(study_figures.parts(shown), "parts", caption),
        "shown": shown,
        "others": [split for split in study.splits if split.classes > least],
    }


def _share(study: Study, looks: Mapping[str, Style]) -> layout.Picture | None:
    if not study.growing:
        return None
    return layout.picture(
        study_figures.share_against_classes(study.growing, looks),
        "head-share",
        "Share of TinyVGG's training step that the head takes, against the number of classes; "
        "dotted: half.",
    )


def _half(growing: Growing) -> tuple[str, str]:
    """From which class count on the head takes half of the step, and the interval in brackets."""
    at, sizes = growing.half.at, [split.classes for split in growing.splits]
    if at is None:
        always = growing.splits[-1].head_share.estimate >= 0.5
        return (f"at {sizes[0]:,} already" if always else f"not up to {sizes[-1]:,}"), ""
    low = f"{at.low:,.0f}" if at.low >= sizes[0] else f"below {sizes[0]:,}"
    high = f"{at.high:,.0f}" if at.high <= sizes[-1] else f"above {sizes[-1]:,}"
    return f"about {units.digits(at.estimate, 2)}", f"[{low}, {high}]"
