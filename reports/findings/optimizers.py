"""Which optimizer keeps a head's logarithm end to end, and which makes it linear.

A training step is no cheaper than its update. A head may read and differentiate a path of log2(n)
rows: an optimizer that decays every row, or lets every row move on, walks all n of them after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.findings import claims
from reports.findings.findings import Findings
from reports.findings.growth import Growth, Order, rank
from reports.findings.joined import Cell
from reports.findings.verdicts import Answer
from reports.stats.complexity import Verdict
from reports.stats.estimates import Interval

LOGARITHM = "O(log n)"


@dataclass(frozen=True)
class Row:
    """One head under one optimizer.

    Attributes:
        counted: how the step's counted work grows, arithmetic or bytes, whichever does faster.
        step: the verdict on the timed step.
        train: the verdict on the timed training step.
        answer: whether the training step is at most O(log n), by counts and clock together.
        classes: the largest size at which the head was timed under every optimizer.
        train_seconds: of the training step there.
        step_seconds: of the update alone there.
        state: bytes that the optimizer keeps there; None where memory was not measured.
    """

    head: str
    optimizer: str
    counted: Order | None
    step: Verdict | None
    train: Verdict | None
    answer: Answer
    classes: int
    train_seconds: Interval | None
    step_seconds: Interval | None
    state: int | None


def rows(findings: Findings) -> tuple[Row, ...]:
    """Every head under every optimizer that was measured, all else as usual; none for one alone."""
    usual = findings.alone
    if usual is None:
        return ()
    views = {
        setting.optimizer: findings.under(setting)
        for setting in findings.settings
        if replace(setting, optimizer=usual.optimizer, state=usual.state) == usual
    }
    if len(views) < 2:
        return ()
    found = [
        _row(head, optimizer, view, _largest(head, list(views.values())))
        for head in findings.run.heads
        for optimizer, view in views.items()
    ]
    return tuple(row for row in found if row)


def _largest(head: str, views: Sequence[Findings]) -> int:
    """The largest class count at which the head was timed in every view that has it; else 0."""
    sizes = [
        {cell.classes for cell in _steps(view, head, "train") if cell.samples} for view in views
    ]
    common = set.intersection(*known) if (known := [one for one in sizes if one]) else set()
    return max(common, default=0)


def _steps(view: Findings, head: str, phase: str) -> list[Cell]:
    return [cell for cell in view.alone_at(phase, view.batch) if cell.head == head]


def _row(head: str, optimizer: str, view: Findings, classes: int) -> Row | None:
    growths = {g.phase: g for g in view.growths if g.head == head and g.phase in ("step", "train")}
    if "train" not in growths:
        return None
    answer, _ = claims.judge_growth(growths["train"], LOGARITHM, at_most=True)
    cells = {
        phase: next((c for c in _steps(view, head, phase) if c.classes == classes), None)
        for phase in ("train", "step")
    }
    train, step = cells["train"], cells["step"]
    return Row(
        head,
        optimizer,
        counted=_counted(growths.get("step") or growths["train"]),
        step=growths["step"].time if "step" in growths else None,
        train=growths["train"].time,
        answer=answer,
        classes=classes,
        train_seconds=train.seconds if train else None,
        step_seconds=step.seconds if step else None,
        state=train.memory.optimizer if train and train.memory else None,
    )


def _counted(growth: Growth) -> Order | None:
    known = [found for found in (growth.multiply_adds, growth.bytes) if found]
    return max(known, key=lambda found: rank(found.model), default=None)


def sentences(found: Sequence[Row]) -> list[str]:
    """A sentence per head that has a logarithm to lose: who keeps it, who does not, who is open."""
    said = []
    for head in dict.fromkeys(row.head for row in found):
        mine = [row for row in found if row.head == head]
        kept = [row.optimizer for row in mine if row.answer == "supported"]
        lost = [row.optimizer for row in mine if row.answer == "contradicted"]
        left_open = [row.optimizer for row in mine if row.answer == "inconclusive"]
        said += _counts(head, mine)
        if not kept:
            continue
        parts = [f"{_listed(kept)} {'keep' if len(kept) > 1 else 'keeps'} it at {LOGARITHM}"]
        if lost:
            grown = _listed(
                list(dict.fromkeys(_grown(row) for row in mine if row.optimizer in lost))
            )
            parts.append(f"{_listed(lost)} {'make' if len(lost) > 1 else 'makes'} it {grown}")
        if left_open:
            orders = {r.counted.model for r in mine if r.optimizer in left_open and r.counted}
            counted = f", the counted work is {_listed(sorted(orders))}" if orders else ""
            parts.append(f"{_listed(left_open)}: left open by the clock{counted}")
        said.append(f"The training step of {head}, end to end: {'; '.join(parts)}.")
    return said


def _counts(head: str, rows: Sequence[Row]) -> list[str]:
    """Counted, the step of hierarchical is O(log n) under sgd and adam, O(n) under adamw."""
    orders: dict[str, list[str]] = {}
    for row in rows:
        if row.counted:
            orders.setdefault(row.counted.model, []).append(row.optimizer)
    if len(orders) < 2:
        return []
    parts = [f"{order} under {_listed(names)}" for order, names in orders.items()]
    return [f"By counted work, the step of {head} is {', '.join(parts)}."]


def _grown(row: Row) -> str:
    if row.train is not None and row.train.within:
        return row.train.said
    return row.counted.model if row.counted else "faster"


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
