"""Reads a results folder into a frozen `Run`, and trusts nothing in it.

The format is `docs/results.md`. A folder may come from somebody else, or from a run that was
killed: nothing is unpickled, no link is followed out of the folder, and a line or record that is
not what the format says is left out and named in `Run.warnings`; the rest can still be reported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.results import fields, training

# Re-exported: a run is made of them.
from reports.results.training import Training as Training

SCHEMA = 1
CELL = (
    "scope",
    "head",
    "phase",
    "classes",
    "batch",
    "features",
    "dtype",
    "device",
    "threads",
    "replica",
)
PHASES = ("forward", "backward", "step", "train", "predict")
SCOPES = ("isolated", "in-model", "pipeline")
STATUSES = ("measured", "skipped", "out-of-memory", "failed")
MEMORY = ("peak_bytes", "parameter_bytes", "gradient_bytes", "optimizer_bytes")
PARTS = ("data", "forward", "head", "backward", "optimizer")
METHODS = ("exact", "greedy", "all")
MODELS = ("untrained", "trained")

# A file with a thousand bad lines is one finding, not a thousand.
WARNINGS_PER_FILE = 10


class ResultsError(Exception):
    """No report is possible; the message is one line for the user."""


@dataclass(frozen=True, eq=False)
class Search:
    """A tree head's ways to a prediction on one model: `METHODS` in turns, round by round.

    Attributes:
        seconds: method -> seconds per batch, (rounds,), as many for each.
        scores: method -> scores computed per sample.
        samples: how many samples were answered by both searches.
        misses: how many of them greedy answers otherwise than exact.
        right: how many the exact answer is right for.
    """

    seconds: Mapping[str, np.ndarray]
    scores: Mapping[str, float]
    samples: int
    misses: int
    right: int


@dataclass(frozen=True, eq=False)
class Run:
    """One run's results, as measured: no statistic is computed yet.

    Attributes:
        folder: where the run lies.
        facts: `run.json`, or empty where it could not be read.
        times: one row per cell and pass: the columns of `CELL`, pass, seconds (1-D array, one entry
            per round), iterations, warmup_seconds, multiply_adds, bytes.
        memory: one row per cell and pass: the columns of `CELL`, pass, and those of `MEMORY`.
        splits: one row per cell and pass: the columns of `CELL`, pass, parts (each of `PARTS` ->
            1-D array of seconds, one per step), flops_per_image (NaN where it was not counted).
        searches: one row per cell and pass: the columns of `CELL`, pass, and for each of `MODELS`
            a `Search`.
        missing: cells without figures: the columns of `CELL`, pass, kind, status, reason.
        trainings: in the order in which the run named its variants, then by seed.
        traces: head -> its profiler traces.
        heads: every head that occurs, in the order in which the run named them.
        pipelines: likewise, every pipeline of training steps that was timed.
        warnings: what was malformed, one line each.
    """

    folder: Path
    facts: Mapping[str, Any]
    times: pd.DataFrame
    memory: pd.DataFrame
    splits: pd.DataFrame
    searches: pd.DataFrame
    missing: pd.DataFrame
    trainings: tuple[Training, ...]
    traces: Mapping[str, tuple[Path, ...]]
    heads: tuple[str, ...]
    pipelines: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name: unlike the name written inside it, it is safe to build a path from."""
        return self.folder.name

    @property
    def variants(self) -> tuple[str, ...]:
        """What was trained, in the order in which the run named it."""
        return tuple(dict.fromkeys(training.variant for training in self.trainings))

    @property
    def names(self) -> tuple[str, ...]:
        """Heads, then variants that bear another name: whatever a figure has to tell apart."""
        return tuple(dict.fromkeys((*self.heads, *self.variants)))

    @property
    def stand_in(self) -> bool:
        """Whether any of it was trained on generated images."""
        dataset = self.facts.get("dataset")
        declared = dataset.get("stand_in", False) if isinstance(dataset, dict) else False
        return bool(declared) or any(training.stand_in for training in self.trainings)


def latest(results: Path) -> Path:
    """The folder of the run under `results` that was started last.

    Raises:
        ResultsError: there is none.
    """
    folders = [
        folder
        for folder in (sorted(results.iterdir()) if results.is_dir() else ())
        if (folder / "run.json").is_file() or (folder / "journal.jsonl").is_file()
    ]
    if not folders:
        raise ResultsError(f"no run under {results}/: measure one first with 'tox -e bench'")

    def started(folder: Path) -> tuple[str, str]:
        facts = _read_json(folder, folder / "run.json", [])
        return str(facts.get("started", "")), folder.name

    return max(folders, key=started)


def locate(run: str, results: Path) -> Path:
    """The folder that `run` means: itself a folder, the name of one under `results`, or 'latest'.

    Raises:
        ResultsError: there is no such folder.
    """
    if run == "latest":
        return latest(results)
    for folder in (Path(run), results / run):
        if folder.is_dir():
            return folder
    raise ResultsError(f"no run {run!r}: neither a folder nor the name of one under {results}/")


def load(folder: Path) -> Run:
    """Read the run in `folder`.

    Raises:
        ResultsError: the folder is missing, empty, or written in a schema unknown here.
    """
    if not folder.is_dir():
        raise ResultsError(f"{folder} is not a results folder: expected a folder with a run.json")
    folder = folder.resolve()
    warnings: list[str] = []
    facts = _read_json(folder, folder / "run.json", warnings)
    if facts and facts.get("schema") != SCHEMA:
        raise ResultsError(
            f"{folder / 'run.json'}: schema {facts.get('schema')!r} is not known here "
            f"(expected {SCHEMA}): render it with the headbench version that measured it"
        )

    times, memory, splits, searches, missing = _journal(folder, warnings)
    trainings = tuple(_trainings(folder, warnings))
    if not (any(map(len, (times, memory, splits, searches, missing))) or trainings):
        raise ResultsError(
            f"{folder} holds no measurement: expected lines in journal.jsonl or training records"
        )
    found, pipelines = [t.head for t in trainings], list[str]()
    for table in (times, memory, splits, searches, missing):
        piped = table["scope"] == "pipeline"
        found.extend(table["head"][~piped])
        pipelines.extend(table["head"][piped])
    heads = _ordered(found, facts, "heads")
    variants = _ordered((t.variant for t in trainings), facts, "trained", "heads")
    return Run(
        folder=folder,
        facts=facts,
        times=times,
        memory=memory,
        splits=splits,
        searches=searches,
        missing=missing,
        trainings=tuple(sorted(trainings, key=lambda t: (variants.index(t.variant), t.seed))),
        traces=_traces(folder, warnings),
        heads=heads,
        pipelines=tuple(dict.fromkeys(pipelines)),
        warnings=tuple(warnings),
    )


def _ordered(found: Iterable[str], facts: Mapping[str, Any], *options: str) -> tuple[str, ...]:
    """Names that occur, in the order in which the run's `options` list them, then by name."""
    occurring = sorted(set(found))
    asked = [name for option in options for name in _asked(facts.get("options"), option)]
    return tuple(dict.fromkeys([*(name for name in asked if name in occurring), *occurring]))


def _asked(options: object, name: str) -> list[str]:
    """The list under the first key `name`, wherever in the options it stands."""
    if not isinstance(options, dict):
        return []
    asked = options.get(name)
    if isinstance(asked, list):
        return [one for one in asked if isinstance(one, str)]
    return next((found for value in options.values() if (found := _asked(value, name))), [])


# --- files ------------------------------------------------------------------------------------


def _inside(folder: Path, path: Path) -> bool:
    """Whether `path` is a regular file that, links followed, lies in `folder`."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _read(folder: Path, path: Path, warnings: list[str]) -> bytes:
    """The file's bytes; empty, with a warning, where it cannot or must not be read."""
    name = path.relative_to(folder)
    if not path.exists() and not path.is_symlink():
        warnings.append(f"{name} is missing")
    elif not _inside(folder, path):
        warnings.append(f"{name} is not a regular file of this folder; it is left out")
    else:
        try:
            return path.read_bytes()
        except OSError as error:
            warnings.append(f"{name} cannot be read ({error.strerror}); it is left out")
    return b""


def _parse(text: bytes) -> dict[str, Any]:
    """A JSON object, or a `ValueError` that says what is there instead."""
    try:
        value = json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg})") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _read_json(folder: Path, path: Path, warnings: list[str]) -> dict[str, Any]:
    content = _read(folder, path, warnings)
    if not content:
        return {}
    try:
        return _parse(content)
    except ValueError as error:
        warnings.append(f"{path.relative_to(folder)}: {error}; it is left out")
        return {}


def _files(folder: Path, pattern: str, warnings: list[str]) -> Iterator[Path]:
    for path in sorted(folder.glob(pattern)):
        if _inside(folder, path):
            yield path
        else:
            warnings.append(f"{path.relative_to(folder)} is not a regular file of this folder")


def _traces(folder: Path, warnings: list[str]) -> dict[str, tuple[Path, ...]]:
    traces: dict[str, tuple[Path, ...]] = {}
    for path in _files(folder, "traces/*/*.pt.trace.json*", warnings):
        if path.name.endswith((".json", ".json.gz")):
            traces[path.parent.name] = (*traces.get(path.parent.name, ()), path)
    return traces


# --- the journal ------------------------------------------------------------------------------


def _cell(record: Mapping[str, Any]) -> dict[str, Any]:
    cell = fields.mapping(record, "cell")
    return {
        "scope": fields.text(cell, "scope", SCOPES),
        "head": fields.name(cell, "head"),
        "phase": fields.text(cell, "phase", PHASES),
        "classes": fields.count(cell, "classes", 1),
        "batch": fields.count(cell, "batch", 1),
        "features": fields.count(cell, "features", 1),
        "dtype": fields.name(cell, "dtype"),
        "device": fields.name(cell, "device"),
        "threads": fields.count(cell, "threads", 1),
        "replica": fields.count(cell, "replica"),
    }


def _entry(record: Mapping[str, Any]) -> dict[str, Any]:
    """A journal line, checked field by field, as a flat row."""
    kind = fields.text(record, "kind", ("time", "memory", "split", "search"))
    status = fields.text(record, "status", STATUSES)
    row = {**_cell(record), "pass": fields.count(record, "pass"), "kind": kind, "status": status}
    if status != "measured":
        return row | {"reason": fields.text(record, "reason")}
    if kind == "memory":
        return row | {field: fields.count(record, field) for field in MEMORY}
    if kind == "split":
        return row | _split(record)
    if kind == "search":
        return row | {model: _search(fields.mapping(record, model)) for model in MODELS}
    counted = {
        field: float("nan") if record.get(field) is None else fields.count(record, field)
        for field in ("multiply_adds", "bytes")
    }
    return (
        row
        | counted
        | {
            "seconds": fields.seconds(record, "seconds", 1),
            "iterations": fields.count(record, "iterations", 1),
            "warmup_seconds": fields.seconds(record, "warmup_seconds", 0),
        }
    )


def _split(record: Mapping[str, Any]) -> dict[str, Any]:
    """Where the time of training steps went: all parts of as many steps."""
    given = fields.mapping(record, "parts")
    parts = {
        part: fields.durations(given, part, 1, lambda value: 0 <= value < math.inf, "non-negative")
        for part in PARTS
    }
    if len({len(taken) for taken in parts.values()}) > 1:
        raise ValueError("parts: expected as many steps in each")
    counted = record.get("flops_per_image")
    return {
        "parts": parts,
        "flops_per_image": math.nan
        if counted is None
        else fields.count(record, "flops_per_image", 1),
    }


def _search(race: Mapping[str, Any]) -> Search:
    """A race: every method in every round, and what came of it."""
    seconds, scores = fields.mapping(race, "seconds"), fields.mapping(race, "scores")
    taken = {method: fields.seconds(seconds, method, 1) for method in METHODS}
    if len({len(rounds) for rounds in taken.values()}) > 1:
        raise ValueError("seconds: expected as many rounds of each method")
    samples = fields.count(race, "samples", 1)
    return Search(
        seconds=taken,
        scores={method: fields.number(scores, method) for method in METHODS},
        samples=samples,
        misses=fields.count(race, "misses", most=samples),
        right=fields.count(race, "right", most=samples),
    )


def _journal(
    folder: Path, warnings: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Times, memory, splits, searches, missing; of a cell twice in a pass, the last line counts."""
    lines = _read(folder, folder / "journal.jsonl", warnings).split(b"\n")
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    malformed: list[str] = []
    repeated = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _entry(_parse(line))
        except ValueError as error:
            found = str(error)
            if number == len(lines):
                found = "torn, as the run was killed while writing it"
            malformed.append(f"journal.jsonl line {number}: {found}; it is left out")
            continue
        key = (row["kind"], row["pass"], *(row[field] for field in CELL))
        repeated += key in rows
        rows[key] = row
    if repeated:
        malformed.append(
            f"journal.jsonl: {repeated} cell(s) measured twice in one pass; the last line counts"
        )
    warnings.extend(malformed[:WARNINGS_PER_FILE])
    if len(malformed) > WARNINGS_PER_FILE:
        warnings.append(f"journal.jsonl: {len(malformed) - WARNINGS_PER_FILE} more such lines")

    def table(keep: Callable[[dict[str, Any]], bool], *columns: str) -> pd.DataFrame:
        kept = [row for row in rows.values() if keep(row)]
        return pd.DataFrame(kept, columns=[*CELL, "pass", *columns])

    def measured(kind: str) -> Callable[[dict[str, Any]], bool]:
        return lambda row: row["kind"] == kind and row["status"] == "measured"

    return (
        table(
            measured("time"), "seconds", "iterations", "warmup_seconds", "multiply_adds", "bytes"
        ),
        table(measured("memory"), *MEMORY),
        table(measured("split"), "parts", "flops_per_image"),
        table(measured("search"), *MODELS),
        table(lambda row: row["status"] != "measured", "kind", "status", "reason"),
    )


# --- training ---------------------------------------------------------------------------------


def _trainings(folder: Path, warnings: list[str]) -> Iterator[Training]:
    for path in _files(folder, "training/*.json", warnings):
        record = _read_json(folder, path, warnings)
        if not record:
            continue
        try:
            if record.get("schema") != SCHEMA:
                found = fields.short(record.get("schema"))
                raise ValueError(f"schema: expected {SCHEMA}, got {found}")
            yield training.parse(record)
        except (ValueError, OverflowError) as error:
            warnings.append(f"{path.relative_to(folder)}: {error}; it is left out")
