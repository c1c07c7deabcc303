"""Is a head measured in turns what it is in a network? The same step in blocks, in turns, in-model.

A head that is called again and again finds its rows in the caches; in turns with its rivals it
finds them less often, and in a network the rest of the model runs between two calls. The ratio of
two heads may differ between the three; this command says by how much on the machine at hand:

    python -m bench.nearness --heads softmax,hierarchical --classes 1024 --batch 128
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from statistics import mean, median, stdev
from typing import Any

import torch
from rich.table import Table
from scipy.stats import t
from torch import Tensor

import heads
from bench.cells import MODEL_BATCH
from bench.measure import duet
from bench.measure.duet import Rival
from bench.measure.stopwatch import Bounds
from bench.measure.timing import Timed, Timing
from bench.measure.workload import Workload, acquaint
from models.tinyvgg import TinyVGG
from reports import terminal
from reports.arguments import Parser, number, several, whole
from reports.results import Cell

MODES = ("in blocks", "in turns", "in-model")
"""One head after the other; call by call; call by call with a step of the body before each."""


def steps(cell: Cell) -> dict[str, Timed]:
    """The head's part of a training step of TinyVGG, as it is timed in each mode."""
    workload = Workload(cell)
    model: Any = workload.module.train()
    kept = [model.embed(workload.input).detach().requires_grad_()]

    def head() -> None:
        features: Tensor = kept[-1]
        workload.clear()
        features.grad = None
        model.head(features, next(targets)).loss.backward()
        workload.optimizer.step()

    def body() -> None:
        embedded = model.embed(workload.input)
        embedded.sum().backward()
        kept[:] = [model.embed(workload.input).detach().requires_grad_()]

    targets = cycle(workload.targets)
    alone = Timed(head)
    return {"in blocks": alone, "in turns": alone, "in-model": Timed(head, before=body)}


def measure(
    timed: Mapping[str, Mapping[str, Timed]], mode: str, bounds: Bounds, seed: int
) -> dict[str, Timing]:
    """Each head's timing in `mode`, once.

    Raises:
        Exception: a head failed.
    """
    rivals = {head: Rival(of[mode]) for head, of in timed.items()}
    names = list(rivals)
    random.Random(seed).shuffle(names)
    together = [[name] for name in names] if mode == "in blocks" else [names]
    found: dict[str, Timing] = {}
    for part in together:
        played = duet.measure(
            {name: rivals[name] for name in part}, bounds, time.perf_counter, seed
        )
        for error in played.errors.values():
            raise error
        found |= played.timings
    return found


def interval(logs: Sequence[float]) -> tuple[float, float, float]:
    """Of logarithms of ratios, one per round: the ratio with its 95 % interval, Student's."""
    center = mean(logs)
    half = float(t.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    return math.exp(center - half), math.exp(center), math.exp(center + half)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table of ratios to the first head."""
    parser = Parser(prog="python -m bench.nearness", description=__doc__)
    add = parser.add_argument
    add("--heads", type=several(str), default=("softmax", "hierarchical"))
    add("--classes", type=whole(2, 2**31 - 1), default=1_024)
    add("--batch", type=whole(1, 2**24), default=MODEL_BATCH)
    add("--threads", type=whole(1, 1_024), default=torch.get_num_threads())
    add("--rounds", type=whole(2, 1_000), default=15, help="of all modes (%(default)s)")
    add("--seconds", type=number(0, 60), default=0.3, help="of a head, mode and round")
    asked = parser.parse_args(arguments)
    for name in asked.heads:
        if name not in heads.names():
            parser.error(f"no head called {name!r}; there are: {', '.join(heads.names())}")
    torch.set_num_threads(asked.threads)
    features = TinyVGG().out_features
    timed = {}
    for name in asked.heads:
        cell = Cell("in-model", name, "train", asked.classes, asked.batch, features)
        acquaint(cell)
        timed[name] = steps(cell)
    bounds = Bounds(max_time=asked.seconds, min_time=5e-4)
    seconds: dict[tuple[str, str], list[float]] = {}
    for index in range(asked.rounds):
        for mode in random.Random(index).sample(MODES, len(MODES)):
            for name, timing in measure(timed, mode, bounds, index).items():
                seconds.setdefault((name, mode), []).append(median(timing.seconds))
    first, *others = asked.heads
    table = Table(
        title=f"ratios to {first}, with 95 % intervals: {asked.classes:,} classes, "
        f"batch {asked.batch}, {features} features"
    )
    for column in ("head", *MODES):
        table.add_column(column)
    table.add_row(first, *(f"{1e6 * median(seconds[first, mode]):.3g} µs" for mode in MODES))
    for name in others:
        cells = []
        for mode in MODES:
            pairs = zip(seconds[name, mode], seconds[first, mode], strict=True)
            low, ratio, high = interval([math.log(one / other) for one, other in pairs])
            cells.append(f"{ratio:.3f} ({low:.3f} to {high:.3f})")
        table.add_row(name, *cells)
    terminal.console(sys.stdout).print(table)


if __name__ == "__main__":
    main()
