"""Reads a results folder into a frozen `Run`, and trusts nothing in it.

The format is `docs/results.md`. A line or record that is not what the format says is left out and
named in `Run.warnings`; the rest can still be reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.results.cell import CELL
from reports.results.files import Reader
from reports.results.folder import AT, ResultsError, named, read_facts, split_machine
from reports.results.journal import KINDS, Entry, Journal, Kind
from reports.results.training import Training

if TYPE_CHECKING:
    import pandas as pd


TOO_SHORT = "the clock saw no time pass: it is too coarse for this cell"
"""Why a cell that was measured has no figures."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run's results, as measured: no statistic is computed yet.

    Of a run on a cluster this is what one of its machines measured, so that figures of different
    machines never meet; accuracies are no machine's, and all trainings are there.

    Attributes:
        folder: where the run lies.
        facts: `run.json`, or empty where it could not be read.
        times: one row per cell and pass: the columns of `CELL`, pass, session, and the fields of
            `journal.Time`; counts that are null are NaN.
        clocks: likewise, with those of `journal.Device`; empty but for a run on a GPU.
        memory: likewise, with those of `journal.Memory`.
        communication: likewise, with those of `journal.Communication`.
        splits: likewise, with those of `journal.Split`.
        searches: likewise, with those of `journal.Search`.
        missing: cells without figures, or too short for the clock: the columns of `CELL`, pass,
            kind, status, reason.
        trainings: in the order in which the run named its variants, then by seed.
        traces: head -> its profiler traces.
        heads: every head that occurs, with its options, in the order in which the run named them.
        pipelines: likewise, every pipeline of training steps that was timed.
        warnings: what was malformed, one line each.
        machine: of a cluster, that measured it; empty where the run is of one machine alone.
        machines: of the cluster, that measured or trained anything: those of most lines first.
    """

    folder: Path
    facts: Mapping[str, Any]
    times: pd.DataFrame
    clocks: pd.DataFrame
    memory: pd.DataFrame
    communication: pd.DataFrame
    splits: pd.DataFrame
    searches: pd.DataFrame
    missing: pd.DataFrame
    trainings: tuple[Training, ...]
    traces: Mapping[str, tuple[Path, ...]]
    heads: tuple[str, ...]
    pipelines: tuple[str, ...]
    warnings: tuple[str, ...]
    machine: str = ""
    machines: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name: unlike the name written inside it, it is safe to build a path from.

        Where several machines measured the run, with that of the one whose figures these are.
        """
        several = len(self.machines) > 1
        return f"{self.folder.name}{AT}{self.machine}" if several else self.folder.name

    @property
    def timed(self) -> tuple[Training, ...]:
        """The trainings whose seconds are those of this machine."""
        return tuple(one for one in self.trainings if one.machine == self.machine)

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


def load(folder: Path) -> Run:
    """Read the run in `folder`; of several machines, that in `folder@machine`.

    Where no machine is named, it is the one that measured most.

    Raises:
        ResultsError: the folder is missing, empty, or written in a schema unknown here; there is
            no such machine.
    """
    folder, asked = split_machine(folder)
    if not folder.is_dir():
        raise ResultsError(f"{folder} is not a results folder: expected a folder with a run.json")
    reader = Reader(folder)
    facts = read_facts(reader)
    entries = _entries(reader)
    trainings = _trainings(reader)
    machines = _machines(entries, trainings)
    machine = asked or next(iter(machines), "")
    if asked and asked not in machines:
        raise ResultsError(
            f"no machine {asked!r} measured {folder.name}; there are: {', '.join(machines)}"
        )
    entries = [entry for entry in entries if entry.machine == machine]
    if not (entries or trainings):
        raise ResultsError(
            f"{reader.folder} holds no measurement: "
            "expected lines in journal.jsonl or training records"
        )
    heads = [e.cell.name for e in entries if not e.cell.pipeline]
    # A head with options is trained under its name as in a call.
    trained = [t.variant if t.variant in heads else t.head for t in trainings]
    variants = _ordered((t.variant for t in trainings), facts, "trained", "heads")
    return Run(
        folder=reader.folder,
        facts={**facts, **_facts_of(facts, machine)},
        times=_measured(entries, "time"),
        clocks=_measured(entries, "device"),
        memory=_measured(entries, "memory"),
        communication=_measured(entries, "communication"),
        splits=_measured(entries, "split"),
        searches=_measured(entries, "search"),
        missing=_table(
            [
                (entry, vars(entry) | ({"reason": TOO_SHORT} if entry.figures else {}))
                for entry in entries
                if entry.figures is None or entry.figures.too_short
            ],
            ("kind", "status", "reason"),
        ),
        trainings=tuple(sorted(trainings, key=lambda t: (variants.index(t.variant), t.seed))),
        traces=_traces(reader),
        heads=_ordered([*heads, *trained], facts, "heads"),
        pipelines=tuple(dict.fromkeys(e.cell.pipeline for e in entries if e.cell.pipeline)),
        warnings=tuple(reader.warnings),
        machine=machine,
        machines=machines,
    )


def _machines(entries: Iterable[Entry], trainings: Iterable[Training]) -> tuple[str, ...]:
    """Those that a cluster's run was made on, who measured most first; none of any other run."""
    lines = Counter(entry.machine for entry in entries)
    # A training is one line of the run's, but only of its own machine's.
    lines.update(training.machine for training in trainings)
    return tuple(name for name, _ in lines.most_common() if name)


def _facts_of(facts: Mapping[str, Any], machine: str) -> Mapping[str, Any]:
    """What `run.json` says of one of a cluster's machines in particular."""
    machines = facts.get("machines")
    own = machines.get(machine) if isinstance(machines, dict) else None
    return own if isinstance(own, dict) else {}


def _entries(reader: Reader) -> list[Entry]:
    """The journal; of a cell twice in a pass on one machine, the last line counts."""
    lines = Journal(reader.folder / "journal.jsonl").entries(reader)
    entries = {(entry.key, entry.machine): entry for entry in lines}
    # What failed is tried again when the run is resumed; only what was measured is so only once.
    measured = [(entry.key, entry.machine) for entry in lines if entry.status == "measured"]
    if repeated := len(measured) - len(set(measured)):
        reader.warnings.append(
            f"journal.jsonl: {repeated} cell(s) measured twice in one pass; the last line counts"
        )
    return list(entries.values())


def _measured(entries: Iterable[Entry], kind: Kind) -> pd.DataFrame:
    figures = KINDS[kind]
    rows = [
        (e, {k: math.nan if v is None else v for k, v in vars(e.figures).items()})
        for e in entries
        if isinstance(e.figures, figures) and not e.figures.too_short
    ]
    return _table(rows, [one.name for one in fields(figures)])


def _table(rows: Iterable[tuple[Entry, Mapping[str, Any]]], columns: Iterable[str]) -> pd.DataFrame:
    """A row for each entry: its cell, its pass, and `columns` of what comes with it."""
    import pandas as pd  # late, since who writes a run does without

    return pd.DataFrame(
        [
            {**vars(entry.cell), "pass": entry.pass_index, **more, "session": entry.session}
            for entry, more in rows
        ],
        columns=[*CELL, "pass", "session", *columns],
    )


def _trainings(reader: Reader) -> list[Training]:
    names = [str(path.relative_to(reader.folder)) for path in reader.files("training/*.json")]
    return [found for name in names if (found := reader.object(name, Training.load))]


def _traces(reader: Reader) -> dict[str, tuple[Path, ...]]:
    traces: dict[str, tuple[Path, ...]] = {}
    for path in reader.files("traces/*/*.pt.trace.json*"):
        if path.name.endswith((".json", ".json.gz")):
            head = named(path.parent.name)
            traces[head] = (*traces.get(head, ()), path)
    return traces


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
