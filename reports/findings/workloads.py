"""What an answer holds for, and where another workload turns it round.

A workload is what a setting says beside the machine: how often the classes occur among the labels,
how sure the model is that predicts, in which precision it computes, which optimizer makes the step,
how wide the features are, and how calls are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reports.findings.clocks import clocks
from reports.findings.fastest import Fastest
from reports.findings.findings import Findings
from reports.findings.joined import Setting

PHASES = ("train", "predict")
"""What an answer is about."""

MODES = {"eager": "eager calls", "graph": "captured graphs", "compile": "torch.compile"}
"""How calls are made, in words."""

AXES: Mapping[str, Callable[[Setting], str]] = {
    "labels": lambda setting: f"{setting.labels} labels",
    "state": lambda setting: f"{setting.state} predictions",
    "dtype": lambda setting: setting.dtype,
    "optimizer": lambda setting: setting.optimizer,
    "features": lambda setting: f"{setting.features:,} features",
    "mode": lambda setting: MODES[setting.mode],
    "ranks": lambda setting: f"{setting.ranks} rank{'s' if setting.ranks > 1 else ''}",
    "device": lambda setting: setting.device,
    "threads": lambda setting: f"{setting.threads} thread{'s' if setting.threads > 1 else ''}",
}
"""Field of a setting -> how it is said."""

ALWAYS_SAID = ("labels", "state", "dtype", "optimizer", "features", "mode")
"""Of every answer; the machine is said elsewhere."""

OF_ONE_PHASE = {"state": "predict", "optimizer": "train"}
"""Fields that leave every other phase as it is."""

MOST_CHANGES = 3
"""That are told in sentences; the page has a table of the rest."""


@dataclass(frozen=True)
class Change:
    """In another workload, another head is fastest, and both answers are decided.

    Attributes:
        setting: the other workload.
        words: how it differs from the usual one.
        before: what is fastest in the usual one, at each size.
        after: what is in this one, likewise.
    """

    setting: Setting
    words: str
    phase: str
    before: tuple[Fastest, ...]
    after: tuple[Fastest, ...]


def holds(findings: Findings) -> str:
    """Uniform labels, untrained predictions, float32, sgd, 128 features, eager calls; or nothing.

    The clock as well, where the run has more than one.
    """
    setting = findings.alone
    if setting is None:
        return ""
    clock = [f"{findings.clock} time"] if len(clocks(findings.as_read)) > 1 else []
    return ", ".join([*(AXES[field](setting) for field in ALWAYS_SAID), *clock])


def differences(setting: Setting, usual: Setting) -> str:
    """The same of what is not as usual: "zipf:1 labels and bfloat16"."""
    different = [
        said(setting) for field, said in AXES.items() if vars(setting)[field] != vars(usual)[field]
    ]
    return " and ".join(different)


def changes(findings: Findings) -> tuple[Change, ...]:
    """Where the fastest head is another one, by phase and workload, at the usual batch size.

    Only heads that were measured in both workloads compete: one that is absent has not lost.
    """
    found = [
        _change(findings, findings.under(setting), setting, phase)
        for phase in PHASES
        for setting in findings.settings[1:]
        if _touches(setting, findings.settings[0], phase)
    ]
    return tuple(change for change in found if change)


def _touches(setting: Setting, usual: Setting, phase: str) -> bool:
    """Whether the phase can be another one in a setting."""
    different = [field for field in AXES if vars(setting)[field] != vars(usual)[field]]
    return any(OF_ONE_PHASE.get(field, phase) == phase for field in different)


def _change(usual: Findings, other: Findings, setting: Setting, phase: str) -> Change | None:
    rivals = _heads(usual, phase, other.batch) & _heads(other, phase, other.batch)
    before, after = (
        {f.classes: f for f in findings.fastest_of(phase, rivals) if f.batch == other.batch}
        for findings in (usual, other)
    )
    pairs = [
        (before[classes], after[classes])
        for classes in sorted(before.keys() & after.keys())
        if before[classes].decided and after[classes].decided
        if before[classes].heads.isdisjoint(after[classes].heads)
    ]
    if usual.alone is None or not pairs:
        return None
    words = differences(setting, usual.alone)
    first, second = zip(*pairs, strict=True)
    return Change(setting, words, phase, tuple(first), tuple(second))


def _heads(findings: Findings, phase: str, batch: int) -> set[str]:
    return {cell.head for cell in findings.alone_at(phase, batch) if cell.samples}


def sentences(findings: Findings) -> list[str]:
    """What of the answer changes with the workload; where nothing does, that, if there are any."""
    found = changes(findings)
    said = [_said(change) for change in found[:MOST_CHANGES]]
    if (more := len(found) - MOST_CHANGES) > 0:
        said.append(f"It changes in {more} more of the workloads measured (below).")
    if not found and len(findings.settings) > 1:
        others = [differences(one, findings.settings[0]) for one in findings.settings[1:]]
        listed = "; ".join(others[:MOST_CHANGES])
        more = len(others) - MOST_CHANGES
        said.append(
            "No other head is the fastest, as far as that is decided, under "
            f"{listed}{f' and {more} more workloads' if more > 0 else ''}."
        )
    return said


def _said(change: Change) -> str:
    """Under zipf:1 labels, prediction at 65,536 classes: softmax, and not adaptive."""
    largest, phase = change.after[-1], {"train": "a training step", "predict": "prediction"}
    others = len(change.after) - 1
    return (
        f"The answer changes with the workload: under {change.words}, the fastest head for "
        f"{phase[change.phase]} at {largest.classes:,} classes and batch {largest.batch} is "
        f"{largest.head}, not {change.before[-1].head}"
        + (f" (and another one at {others} more sizes)." if others else ".")
    )
