"""Reads a results folder into a frozen `Run`, and trusts nothing in it.

The format is `docs/results.md`. A folder may come from somebody else, or from a run that was
killed: nothing is unpickled, no link is followed out of the folder, and a line or record that is
not what the format says is left out and named in `Run.warnings`; the rest can still be reported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
SHARES = ("accuracy", "top5", "precision", "recall", "f1")

# Beyond 2**53 a JSON number no longer survives a float; no count of this format comes near.
LARGEST = 2**53
# A file with a thousand bad lines is one finding, not a thousand.
WARNINGS_PER_FILE = 10
LONGEST_NAME = 60


class ResultsError(Exception):
    """No report is possible; the message is one line for the user."""


@dataclass(frozen=True, eq=False)
class Final:
    """Metrics on the test set after the last epoch; shares in [0, 1], macro averages.

    Attributes:
        metrics: accuracy, top5, precision, recall, f1.
        per_class: one row per class: name, precision, recall, f1.
        confusion: (classes, classes); [i, j] counts images of class i predicted as j.
    """

    metrics: Mapping[str, float]
    per_class: pd.DataFrame
    confusion: np.ndarray


@dataclass(frozen=True, eq=False)
class Training:
    """One training of TinyVGG with one head from one seed.

    Attributes:
        variant: what the study calls this head under this recipe; the head's name in old records.
        head_multiply_adds: of the head in a training step, per image, counted; None in old records.
        greedy_misses: test images that a greedy descent answers otherwise than the exact search;
            None where the head has no such search, and in old records.
        losses: columns epoch, batch, loss.
        epochs: columns epoch, train_loss, test_loss, train_seconds, test_seconds and the shares.
        final: None where the training failed; `reason` then says why.
    """

    variant: str
    head: str
    seed: int
    status: str
    reason: str
    seconds: float
    dataset: Mapping[str, Any]
    config: Mapping[str, Any]
    losses: pd.DataFrame
    epochs: pd.DataFrame
    stopped_early: bool
    final: Final | None
    head_multiply_adds: float | None = None
    greedy_misses: int | None = None

    @property
    def superclass_of(self) -> tuple[int, ...] | None:
        """Of each class tested, the number of its superclass; None where there are none."""
        found = self.dataset.get("superclass_of")
        if (
            not isinstance(found, list)
            or self.final is None
            or len(found) != len(self.final.confusion)
            or not all(type(one) is int and 0 <= one < len(found) for one in found)
        ):
            return None
        return tuple(found) or None

    @property
    def stand_in(self) -> bool:
        """Whether the images were generated, so that its accuracy says nothing."""
        return bool(self.dataset.get("stand_in", False))


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


# --- fields -----------------------------------------------------------------------------------


def _text(record: Mapping[str, Any], field: str, known: Sequence[str] = ()) -> str:
    value = record.get(field)
    if not isinstance(value, str) or (known and value not in known):
        expected = " or ".join(known) if known else "a string"
        raise ValueError(f"{field}: expected {expected}, got {_short(value)}")
    return value


def _name(record: Mapping[str, Any], field: str) -> str:
    """A text short and plain enough to stand in a table and beside a line of a figure."""
    value = _text(record, field)
    if not value.isprintable() or not 1 <= len(value) <= LONGEST_NAME:
        raise ValueError(
            f"{field}: expected 1 to {LONGEST_NAME} printable characters, got {_short(value)}"
        )
    return value


def _count(record: Mapping[str, Any], field: str, least: int = 0) -> int:
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < LARGEST:
        raise ValueError(f"{field}: expected an integer of at least {least}, got {_short(value)}")
    return value


def _number(record: Mapping[str, Any], field: str, low: float = 0, high: float = math.inf) -> float:
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{field}: expected a number in [{low:g}, {high:g}], got {_short(value)}")
    return float(value)


def _loss(record: Mapping[str, Any], field: str) -> float:
    """A loss, where "not finite" is a finding and not a mistake of the file."""
    value = record.get(field)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{field}: expected a number, got {_short(value)}")
    return float(value)


def _rows(record: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    value = record.get(field)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError(f"{field}: expected a list of objects, got {_short(value)}")
    return value


def _mapping(record: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = record.get(field)
    if not isinstance(value, dict):
        raise ValueError(f"{field}: expected an object, got {_short(value)}")
    return value


def _seconds(record: Mapping[str, Any], field: str, entries: int) -> np.ndarray:
    """At least so many durations, all positive."""
    return _durations(record, field, entries, lambda value: 0 < value < math.inf, "positive")


def _durations(
    record: Mapping[str, Any],
    field: str,
    entries: int,
    holds: Callable[[float], bool],
    expected: str,
) -> np.ndarray:
    values = record.get(field)
    if (
        not isinstance(values, list)
        or len(values) < entries
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        or not all(holds(v) for v in values)
    ):
        raise ValueError(
            f"{field}: expected a list of at least {entries} {expected} numbers, "
            f"got {_short(values)}"
        )
    return np.array(values, dtype=np.float64)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


# --- the journal ------------------------------------------------------------------------------


def _cell(record: Mapping[str, Any]) -> dict[str, Any]:
    cell = _mapping(record, "cell")
    return {
        "scope": _text(cell, "scope", SCOPES),
        "head": _name(cell, "head"),
        "phase": _text(cell, "phase", PHASES),
        "classes": _count(cell, "classes", 1),
        "batch": _count(cell, "batch", 1),
        "features": _count(cell, "features", 1),
        "dtype": _name(cell, "dtype"),
        "device": _name(cell, "device"),
        "threads": _count(cell, "threads", 1),
        "replica": _count(cell, "replica"),
    }


def _entry(record: Mapping[str, Any]) -> dict[str, Any]:
    """A journal line, checked field by field, as a flat row."""
    kind = _text(record, "kind", ("time", "memory", "split", "search"))
    status = _text(record, "status", STATUSES)
    row = {**_cell(record), "pass": _count(record, "pass"), "kind": kind, "status": status}
    if status != "measured":
        return row | {"reason": _text(record, "reason")}
    if kind == "memory":
        return row | {field: _count(record, field) for field in MEMORY}
    if kind == "split":
        return row | _split(record)
    if kind == "search":
        return row | {model: _search(_mapping(record, model)) for model in MODELS}
    counted = {
        field: float("nan") if record.get(field) is None else _count(record, field)
        for field in ("multiply_adds", "bytes")
    }
    return (
        row
        | counted
        | {
            "seconds": _seconds(record, "seconds", 1),
            "iterations": _count(record, "iterations", 1),
            "warmup_seconds": _seconds(record, "warmup_seconds", 0),
        }
    )


def _split(record: Mapping[str, Any]) -> dict[str, Any]:
    """Where the time of training steps went: all parts of as many steps."""
    given = _mapping(record, "parts")
    parts = {
        part: _durations(given, part, 1, lambda value: 0 <= value < math.inf, "non-negative")
        for part in PARTS
    }
    if len({len(taken) for taken in parts.values()}) > 1:
        raise ValueError("parts: expected as many steps in each")
    counted = record.get("flops_per_image")
    return {
        "parts": parts,
        "flops_per_image": math.nan if counted is None else _count(record, "flops_per_image", 1),
    }


def _search(race: Mapping[str, Any]) -> Search:
    """A race: every method in every round, and what came of it."""
    seconds, scores = _mapping(race, "seconds"), _mapping(race, "scores")
    taken = {method: _seconds(seconds, method, 1) for method in METHODS}
    if len({len(rounds) for rounds in taken.values()}) > 1:
        raise ValueError("seconds: expected as many rounds of each method")
    samples = _count(race, "samples", 1)
    return Search(
        seconds=taken,
        scores={method: _number(scores, method) for method in METHODS},
        samples=samples,
        misses=int(_number({"misses": _count(race, "misses")}, "misses", 0, samples)),
        right=int(_number({"right": _count(race, "right")}, "right", 0, samples)),
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

    def table(keep: Callable[[dict[str, Any]], bool], *fields: str) -> pd.DataFrame:
        kept = [row for row in rows.values() if keep(row)]
        return pd.DataFrame(kept, columns=[*CELL, "pass", *fields])

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
            yield _training(record)
        except (ValueError, OverflowError) as error:
            warnings.append(f"{path.relative_to(folder)}: {error}; it is left out")


def _training(record: Mapping[str, Any]) -> Training:
    if record.get("schema") != SCHEMA:
        raise ValueError(f"schema: expected {SCHEMA}, got {_short(record.get('schema'))}")
    status = _text(record, "status", ("measured", "failed"))
    dataset = _mapping(record, "dataset")
    losses = [
        {
            "epoch": _count(row, "epoch", 1),
            "batch": _count(row, "batch"),
            "loss": _loss(row, "loss"),
        }
        for row in _rows(record, "losses")
    ]
    epochs = [
        {
            "epoch": _count(row, "epoch", 1),
            **{field: _loss(row, field) for field in ("train_loss", "test_loss")},
            **{field: _number(row, field) for field in ("train_seconds", "test_seconds")},
            **{field: _number(row, field, 0, 1) for field in SHARES},
        }
        for row in _rows(record, "epochs")
    ]
    final = record.get("final")
    head, counted = _name(record, "head"), record.get("head_multiply_adds")
    missed = record.get("greedy_misses")
    return Training(
        variant=_name(record, "variant") if "variant" in record else head,
        head=head,
        seed=_count(record, "seed"),
        status=status,
        reason=_text(record, "reason"),
        seconds=_number(record, "seconds"),
        dataset=dataset,
        config=_mapping(record, "config"),
        losses=pd.DataFrame(losses, columns=["epoch", "batch", "loss"]),
        epochs=pd.DataFrame(
            epochs,
            columns=["epoch", "train_loss", "test_loss", "train_seconds", "test_seconds", *SHARES],
        ),
        stopped_early=record.get("stopped_early") is True,
        final=None if final is None else _final(_mapping(record, "final"), dataset),
        head_multiply_adds=None if counted is None else _number(record, "head_multiply_adds"),
        greedy_misses=None if missed is None else _count(record, "greedy_misses"),
    )


def _final(final: Mapping[str, Any], dataset: Mapping[str, Any]) -> Final:
    confusion = final.get("confusion")
    size = len(confusion) if isinstance(confusion, list) else 0
    if (
        not isinstance(confusion, list)
        or not all(isinstance(row, list) and len(row) == size for row in confusion)
        or not all(
            type(count) is int and 0 <= count < LARGEST for row in confusion for count in row
        )
    ):
        raise ValueError("final.confusion: expected a square table of counts")
    per_class = _mapping(final, "per_class")
    columns: dict[str, list[float]] = {}
    for field in ("precision", "recall", "f1"):
        values = per_class.get(field)
        if not isinstance(values, list) or len(values) != size:
            raise ValueError(f"final.per_class.{field}: expected one share per class ({size})")
        columns[field] = [_number({field: value}, field, 0, 1) for value in values]
    names = dataset.get("classes")
    if not isinstance(names, list) or len(names) != size:
        names = [str(index) for index in range(size)]
    return Final(
        metrics={field: _number(final, field, 0, 1) for field in SHARES},
        per_class=pd.DataFrame({"name": [str(name) for name in names], **columns}),
        confusion=np.array(confusion, dtype=np.int64).reshape(size, size),
    )
