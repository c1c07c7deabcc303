"""A run in a terminal of 80 columns: heads, claims, the noise floor, and where the page is."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports import units
from reports.findings import claims
from reports.findings.findings import Findings
from reports.findings.notices import notices

WIDTH = 80
COLOURS = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}


def show(findings: Findings, page: Path, console: Console | None = None) -> None:
    """Print the summary; `page` is where the whole report lies."""
    console = console or Console(highlight=False)
    width = min(WIDTH, console.width)
    console.print(_heads(findings), width=width)
    console.print(_claims(findings), width=width)
    for line in _notes(findings):
        console.print(Text(line), width=width)
    # A path is there to be copied: it must not be broken into lines.
    console.print(Text(f"report: {page}"), soft_wrap=True)


def _heads(findings: Findings) -> Table:
    at = ""
    if findings.reference:
        at = f"training step at {findings.reference:,} classes, batch {findings.batch}"
    table = Table(title=Text(f"{findings.run.name}: {at}" if at else findings.run.name))
    table.caption, table.caption_justify = Text(_trained(findings)), "left"
    table.add_column("head", overflow="fold")
    for name in ("step", "memory", "accuracy", "F1", "epoch"):
        table.add_column(name, justify="right")
    for row in findings.heads:
        reached = row.trained
        table.add_row(
            Text(row.head),
            units.seconds(row.step.estimate) if row.step else "—",
            units.num_bytes(row.memory.total) if row.memory else "—",
            units.share(reached.accuracy.estimate) if reached else "—",
            units.share(reached.f1.estimate) if reached else "—",
            units.seconds(reached.epoch_seconds.estimate)
            if reached and reached.epoch_seconds
            else "—",
        )
    return table


def _trained(findings: Findings) -> str:
    """What the accuracies in the table are those of; empty where there are none."""
    shown = {row.trained.variant for row in findings.heads if row.trained}
    said = []
    for training in findings.run.trainings:
        if training.variant in shown and training.final is not None:
            of, how, epochs = training.dataset, training.config, len(training.epochs)
            said.append(
                f"after {epochs} epoch{'s' if epochs > 1 else ''} on {of.get('train_images')} "
                f"images ({of.get('name')}; {how.get('optimizer')}, learning rate "
                f"{how.get('learning_rate')}, batch {how.get('batch_size')}), where guessing "
                f"reaches {units.share(1 / max(1, len(training.final.confusion)))}"
            )
    if not said:
        return ""
    return (
        "accuracy and F1: share of test images that TinyVGG, a small image classifier, gets right "
        f"with this head, and its mean over classes, {'; or '.join(dict.fromkeys(said))}. "
        "epoch: time to train one."
    )


def _claims(findings: Findings) -> Table:
    table = Table(title="published claims")
    table.add_column("claim", overflow="fold")
    table.add_column("measured", overflow="fold")
    table.add_column("verdict")
    for claim, verdict in claims.check(findings):
        table.add_row(
            Text(claim.statement),
            Text(verdict.measured),
            Text(verdict.answer, style=COLOURS.get(verdict.answer, "")),
        )
    return table


def _notes(findings: Findings) -> list[str]:
    run = findings.run
    lines = [f"{notice.title.lower()}: {notice.text}" for notice in notices(findings)]
    if findings.floor.comparisons:
        lines.append(
            f"noise floor {units.share(findings.margin)} from {findings.floor.comparisons} A/A "
            "pairs: smaller differences are not claimed"
        )
    if len(run.missing):
        lines.append(f"{len(run.missing)} cell(s) skipped or failed: the report says why")
    return lines + [f"warning: {warning}" for warning in run.warnings]
