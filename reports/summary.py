"""A run in a terminal of 80 columns: heads, claims, the noise floor, and where the page is.

    python -m reports.summary [RUN ...] [--results FOLDER]

prints it without a page; of several runs it also says where their maps agree.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reports import terminal, units
from reports.arguments import Parser
from reports.findings import agreement, answer, claims, clocks, phases, run_facts, words, workloads
from reports.findings.findings import Findings, find
from reports.findings.joined import Memory
from reports.findings.notices import notices
from reports.results import ResultsError, load, locate
from reports.terminal import Column

COLOURS = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}

HEADS = {
    "head": Column(readable=20),
    "step": Column(number=True, given_up=1),
    "memory": Column(number=True, given_up=3),
    "accuracy": Column(number=True, given_up=2),
    "F1": Column(number=True, given_up=5),
    "epoch": Column(number=True, given_up=4),
}

CLAIMS = {
    "claim": Column(),
    "measured": Column(given_up=2),
    "verdict": Column(given_up=1, style=COLOURS),
}


def show(findings: Findings, page: Path | None, console: Console | None = None) -> None:
    """Print the summary; `page` is where the whole report lies, None where there is none."""
    console = console or terminal.console()
    _heads(findings, console)
    _claims(findings, console)
    for line in _notes(findings):
        terminal.say(console, line)
    if page:
        terminal.say(console, f"report: {page}", copied=True)


def _heads(findings: Findings, console: Console) -> None:
    at = ""
    if findings.reference:
        at = f": training step at {findings.reference:,} classes, batch {findings.batch}"
    rows = []
    for row in findings.heads:
        reached = row.trained
        rows.append(
            (
                row.head,
                units.seconds(row.step.estimate) if row.step else "—",
                _memory(row.memory) if row.memory else "—",
                units.share(reached.accuracy.estimate) if reached else "—",
                units.share(reached.f1.estimate) if reached else "—",
                units.seconds(reached.epoch_seconds.estimate)
                if reached and reached.epoch_seconds
                else "—",
            )
        )
    terminal.show(console, HEADS, rows, f"{findings.run.name}{at}", _caption(findings))


def _memory(memory: Memory) -> str:
    return f"{units.num_bytes(memory.total)}\n({units.num_bytes(memory.peak)})"


def _caption(findings: Findings) -> str:
    """What times, memory and accuracies in the table are those of."""
    said = []
    if findings.reference:
        said.append(
            f"step and memory: for {workloads.holds(findings)}; memory: parameters, "
            "optimizer state and peak in all, and below it the step's peak above them."
        )
    return " ".join([*said, *filter(None, [_trained(findings)])])


def _trained(findings: Findings) -> str:
    """What the accuracies in the table are those of; empty where there are none."""
    shown = {row.trained.variant for row in findings.heads if row.trained}
    said = []
    for training in findings.run.trainings:
        if training.variant in shown and training.final is not None and not training.of_words:
            of, how, epochs = training.dataset, training.config, len(training.epochs)
            said.append(
                f"after {epochs} epoch{'s' if epochs > 1 else ''} on {of.get('train_images')} "
                f"images ({of.get('name')}; {how.get('optimizer')}, learning rate "
                f"{how.get('learning_rate')}, batch {how.get('batch_size')}), where guessing "
                f"reaches {units.share(1 / max(1, len(training.class_names)))}"
            )
    if not said:
        return ""
    return (
        "accuracy and F1: share of test images that TinyVGG, a small image classifier, gets right "
        f"with this head, and its mean over classes, {'; or '.join(dict.fromkeys(said))}. "
        "epoch: time to train one."
    )


def _claims(findings: Findings, console: Console) -> None:
    checked = claims.check(findings)
    rows = [(claim.statement, found.measured, found.answer) for claim, found in checked]
    terminal.show(console, CLAIMS, rows, "published claims", _holds(findings))


def _holds(findings: Findings) -> str:
    """Which workload the verdicts are of; empty where no head was timed alone."""
    return f"verdicts on time: for {said}" if (said := workloads.holds(findings)) else ""


def _notes(findings: Findings) -> list[str]:
    run = findings.run
    lines = [f"{notice.title.lower()}: {notice.text}" for notice in notices(findings)]
    if findings.in_turns:
        lines.append(_in_turns(findings))
    elif findings.floor.comparisons:
        lines.append(
            f"noise floor {units.share(findings.margin)} from {findings.floor.comparisons} A/A "
            "pairs: smaller differences are not claimed"
        )
    lines += filter(None, [clocks.noise(findings.floor_by_clock)])
    lines += workloads.sentences(findings)
    lines += filter(None, [phases.summary(phases.sums(findings))])
    lines += [
        f"map of the {answer.PHASE_NAMES[phase].lower()}: {answer.squares(findings, phase)}"
        for phase in ("train", "predict")
        if findings.fastest(phase)
    ]
    lines += words.sentences(words.Words(findings))
    lines += filter(None, [run_facts.inside(run.facts)])
    if len(run.missing):
        lines.append(f"{len(run.missing)} cell(s) skipped or failed: the report says why")
    return lines + [f"warning: {warning}" for warning in run.warnings]


def _in_turns(findings: Findings) -> str:
    """What A/A pairs say of comparisons turn by turn."""
    floor = findings.floor
    if not floor.comparisons:
        return "cells were measured in turns, without an A/A pair: the noise floor is unknown"
    said = (
        f"noise floor: of {floor.comparisons} A/A pairs measured in turns half differ by less "
        f"than {units.share(floor.typical.estimate)}, 95 % by less than "
        f"{units.share(findings.margin)}"
    )
    if len(findings.floors) > 1:
        parts = (
            f"{units.share(one.margin)} up to {units.seconds(one.seconds[1])}"
            for one in findings.floors
        )
        said += f" (by duration of a call: {', '.join(parts)})"
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Print summaries; the exit status is 2 where a run cannot be read."""
    parser = Parser(prog="python -m reports.summary", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders or names; default: latest")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results/")
    asked = parser.parse_args(arguments)
    status = 0
    shown: list[Findings] = []
    for run in asked.runs or ["latest"]:
        try:
            findings = find(load(locate(run, asked.results)))
            show(findings, None)
            shown.append(findings)
        except (ResultsError, OSError) as error:
            terminal.error(error)
            status = 2
    if len(shown) > 1:
        for line in _agreement(shown):
            terminal.say(terminal.console(), line)
    return status


def _agreement(runs: Sequence[Findings]) -> list[str]:
    """Where the maps of several runs agree, or why that cannot be said."""
    if reason := agreement.why_not(runs):
        return [reason]
    found = {phase: agreement.squares(runs, phase) for phase in ("train", "predict")}
    return [
        f"map of the {answer.PHASE_NAMES[phase].lower()} {agreement.said(squares, len(runs))}"
        for phase, squares in found.items()
        if squares
    ]


if __name__ == "__main__":
    sys.exit(terminal.command(main))
