"""A run for other tools: Bencher Metric Format, CSV or Parquet; see `docs/results.md`.

What is exported are the figures of the report, each with its interval, of every cell of the run.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import pandas as pd

from reports import terminal
from reports.findings import joined, run_facts
from reports.findings.clocks import Clock, by, clocks
from reports.results import CELL, MEMORY, Cell, ResultsError, Run
from reports.stats import estimates

Form = Literal["bmf", "csv", "parquet"]

FORMS: tuple[Form, ...] = get_args(Form)

ENDINGS: Mapping[Form, str] = {"bmf": ".bmf.json", "csv": ".csv", "parquet": ".parquet"}

SCHEMA = 1
"""Of the table: to be counted up when a column changes its meaning or goes."""

RUN = ("schema", "run", "started", "machine", "torch", "revision")
FIGURE = ("measure", "clock", "unit", "estimate", "low", "high", "samples", "passes")
COLUMNS = (*RUN, *CELL, *FIGURE)

LONGEST_TEXT = 255
"""What a folder's name may have."""

NANOSECONDS = 1e9
"""In a second: the unit of Bencher's own measure `latency`."""


def exported(run: Run, form: Form, clock: Clock | None = None) -> bytes:
    """The content of a file of this form.

    Args:
        run: as read.
        form: one of `FORMS`.
        clock: to read times from; where None, the device's if it was measured.

    Raises:
        ResultsError: no cell has a figure, the run has no such clock, or pyarrow is missing.
    """
    try:
        found = table(run, clock or clocks(run)[0])
    except ValueError as error:
        raise ResultsError(str(error)) from None
    if found.empty:
        raise ResultsError(f"{run.name} has no cell with figures: there is nothing to export")
    if form == "bmf":
        return json.dumps(bmf(found), indent=1, allow_nan=False).encode()
    if form == "csv":
        texts = found.select_dtypes(exclude="number").columns
        return terminal.utf8(
            found.assign(**{name: found[name].map(_no_formula) for name in texts}).to_csv(
                index=False, lineterminator="\n"
            )
        )
    packed = io.BytesIO()
    try:
        found.to_parquet(packed, engine="pyarrow", index=False)
    except ImportError:
        raise ResultsError(
            "--export parquet needs pyarrow, which is missing or does not work: "
            "use tox -e report-parquet, or pip install 'headbench[parquet]'"
        ) from None
    return packed.getvalue()


def table(run: Run, clock: Clock) -> pd.DataFrame:
    """A row for each cell and measure, with the columns `COLUMNS`: see `docs/results.md`.

    Raises:
        ValueError: the run has no such clock.
    """
    run = by(run, clock)
    machine = run_facts.mapping(run.facts.get("machine"))
    said = (run.facts.get("started"), run_facts.where(run.facts))
    versions = (machine.get("torch"), machine.get("revision"))
    same = (SCHEMA, *map(_text, (run.name, *said, *versions)))
    rows = [(*same, *row) for row in (*_times(run, clock), *_memory(run))]
    return pd.DataFrame(rows, columns=[*COLUMNS]).sort_values([*CELL], kind="stable")


def bmf(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Benchmark -> measure -> value and bounds, times in nanoseconds.

    Second halves of A/A pairs are left out, and so is an interval that is not bounded.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in table[table["replica"] == 0].to_dict("records"):
        cell = Cell(**{name: row[name] for name in CELL})
        timed = row["measure"] == "time"
        low, value, high = (
            row[end] * (NANOSECONDS if timed else 1) for end in ("low", "estimate", "high")
        )
        bounds = {"lower_value": low, "upper_value": high} if math.isfinite(high) else {}
        measure = "latency" if timed else row["measure"].replace("_", "-")
        found.setdefault(cell.label, {})[measure] = {"value": value, **bounds}
    return found


def _times(run: Run, clock: Clock) -> Iterator[tuple[Any, ...]]:
    """Of each cell that was timed, `CELL` and `FIGURE`."""
    known = joined.scatter(run)
    times = run.times.sort_values("pass", kind="stable")
    for place, passes in joined.by_cell(times, "seconds").items():
        samples = [seconds for (seconds,) in passes]
        taken = estimates.median(samples, known)
        interval = (taken.estimate, taken.low, taken.high)
        yield *place, "time", clock, "s", *interval, sum(map(len, samples)), len(samples)


def _memory(run: Run) -> Iterator[tuple[Any, ...]]:
    """Likewise the bytes of each kind, the most of any pass: counted, and so no interval."""
    for place, passes in joined.by_cell(run.memory, *MEMORY).items():
        for measure, counted in zip(MEMORY, zip(*passes, strict=True), strict=True):
            interval = (float(max(counted)), math.nan, math.nan)
            yield *place, measure, "", "B", *interval, len(counted), len(counted)


def _text(value: object) -> str:
    """Whatever the run says of itself, short and printable; empty for nothing."""
    said = "" if value is None else str(value)[:LONGEST_TEXT]
    return " ".join(terminal.printable(said).splitlines())


def _no_formula(text: str) -> str:
    """A spreadsheet would run a name that begins like a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
