"""The benchmark of the method: verdicts and intervals on curves and cells whose truth is known.

    python -m reports.simulation [--curves N] [--seed S]

Each curve is a + b*g(n) at 15 sizes from 2^5 to 2^19: overhead a from 10 to 100 us, the growing
term at the top 2 to 100 times the overhead (both log-uniform); 3 passes of 10 rounds; every round
with 2 to 5 % noise, every size in every pass with 2 to 5 % drift of its own (passes run in shuffled
order); 3 % of the rounds 1.5 to 4 times too long. `classify` is judged beside the rules of
google/benchmark and of the big-O package, which see the medians of the same samples.
"""

from __future__ import annotations

import importlib.util
import math
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports import terminal
from reports.arguments import MOST_SEED, Parser, whole
from reports.compare import THRESHOLD, Measured, compare
from reports.stats import estimates
from reports.stats.complexity import MODELS, Model, classify, growth
from reports.stats.crossover import crossover
from reports.stats.estimates import Interval, Passes

Array = NDArray[np.float64]
Rule = Callable[[Array, Array], str]

SIZES: Array = np.exp2(np.arange(5, 20))
PASSES, ROUNDS = 3, 10


class Machine(NamedTuple):
    """How a simulated machine errs: relative standard deviations, and the share of spikes.

    Its drift differs between sizes, between passes, or (the protocol's shuffled passes) both.
    """

    noise: float
    drift: float
    spikes: float = 0.03
    between_sizes: bool = True
    between_passes: bool = True

    def measure(self, truth: Array, random: np.random.Generator) -> list[list[Array]]:
        """Samples of cells that truly cost `truth`: for each cell PASSES arrays of ROUNDS."""
        drifts = (truth.size if self.between_sizes else 1, PASSES if self.between_passes else 1, 1)
        cells = truth[:, None, None] * np.exp(
            self.drift * random.standard_normal(drifts)
            + self.noise * random.standard_normal((truth.size, PASSES, ROUNDS))
        )
        spiked = random.random(cells.shape) < self.spikes
        cells = np.where(spiked, cells * random.uniform(1.5, 4, cells.shape), cells)
        return [list(cell) for cell in cells]


def machine(random: np.random.Generator) -> Machine:
    """A machine whose noise and drift are each 2 to 5 %."""
    return Machine(noise=random.uniform(0.02, 0.05), drift=random.uniform(0.02, 0.05))


def curve(model: Model, random: np.random.Generator) -> Array:
    """Seconds at SIZES: a random overhead, and a term of `model` 2 to 100 times it at the top."""
    g = growth(model, SIZES)
    overhead = math.exp(random.uniform(math.log(10e-6), math.log(100e-6)))
    times = math.exp(random.uniform(math.log(2), math.log(100)))
    seconds: Array = overhead * (1 + times * g / max(g[-1], 1))
    return seconds


def google_benchmark(n: Array, seconds: Array) -> str:
    """The rule of google/benchmark: `MinimalLeastSq` with `oAuto`, in its src/complexity.cc.

    One coefficient and no intercept, least squares on the absolute times, the smallest root mean
    square error (normalised by the mean time); among its curves is n^3.
    """
    growing: dict[str, Array] = {model: growth(model, n) for model in MODELS[1:]}
    curves = {"O(1)": np.ones_like(n), **growing, "O(n^3)": n**3}
    errors = {
        name: float(np.mean((seconds - (seconds @ g) / (g @ g) * g) ** 2)) ** 0.5 / seconds.mean()
        for name, g in curves.items()
    }
    return min(errors, key=lambda name: errors[name])


def big_o_package(n: Array, seconds: Array) -> str:
    """The rule of the big-O package: intercept and coefficient, the smallest residual.

    It is given microseconds, as its preference for simple models is an absolute 1e-6, and the five
    models alone, as its cubic breaks off at these sizes (its matrix loses rank).
    """
    package = importlib.import_module("big_o.big_o")
    models = importlib.import_module("big_o.complexities")
    names = ("Constant", "Logarithmic", "Linear", "Linearithmic", "Quadratic")
    classes = {getattr(models, name): model for name, model in zip(names, MODELS, strict=True)}
    best, _ = package.infer_big_o_class(n, seconds * 1e6, classes=list(classes))
    return classes[type(best)]


def verdicts(count: int, seed: int) -> str:
    """The tables of verdicts on `count` curves of each model, and of the exponents covered."""
    random = np.random.default_rng(seed)
    rules: dict[str, Rule] = {"google/benchmark": google_benchmark}
    installed = importlib.util.find_spec("big_o") is not None
    if installed:
        rules["big-O"] = big_o_package
    outcomes: dict[str, Counter[tuple[Model, str]]] = {n: Counter() for n in ("headbench", *rules)}
    covered: Counter[Model] = Counter()
    seconds = 0.0
    for model in MODELS:
        for _ in range(count):
            truth = curve(model, random)
            cells = machine(random).measure(truth, random)
            pooled = [np.concatenate(cell) for cell in cells]
            began = time.perf_counter()
            verdict = classify(SIZES, pooled)
            seconds += time.perf_counter() - began
            outcomes["headbench"][model, verdict.model] += 1
            covered[model] += exponent(model, truth) in verdict.exponent
            medians = np.array([np.median(samples) for samples in pooled])
            for name, rule in rules.items():
                outcomes[name][model, rule(SIZES, medians)] += 1
    rows = [[name, "all", *_shares(counts, MODELS, count)] for name, counts in outcomes.items()] + [
        [name, model, *_shares(counts, (model,), count)]
        for name, counts in outcomes.items()
        for model in MODELS
    ]
    absent = "" if installed else "\nThe big-O package is not installed: no row for it.\n"
    return (
        table(["method", "truth", "right", "wrong", "inconclusive"], rows)
        + absent
        + "\n"
        + table(
            ["truth", "exponent covered by its 95 % interval"],
            [[model, f"{covered[model] / count:.1%}"] for model in MODELS],
        )
        + f"\n{1e3 * seconds / count / len(MODELS):.0f} ms a verdict.\n"
    )


def habits(count: int, seed: int) -> str:
    """The table of verdicts on `count` curves of each model where the drift has other habits."""
    rows = []
    for habit, sizes, passes in (
        ("each size in each pass", True, True),
        ("each pass, all sizes alike", False, True),
        ("each size, all passes alike", True, False),
    ):
        random = np.random.default_rng(seed)
        counts: Counter[tuple[Model, str]] = Counter()
        for model in MODELS:
            for _ in range(count):
                shaky = machine(random)._replace(between_sizes=sizes, between_passes=passes)
                cells = shaky.measure(curve(model, random), random)
                verdict = classify(SIZES, [np.concatenate(cell) for cell in cells])
                counts[model, verdict.model] += 1
        rows.append([habit, *_shares(counts, MODELS, count)])
    return table(["a drift of its own for", "right", "wrong", "inconclusive"], rows)


def exponent(model: Model, truth: Array) -> float:
    """The exponent that a verdict's interval should cover: of the curve free of noise."""
    known = {"O(1)": 0.0, "O(log n)": 0.0, "O(n)": 1.0, "O(n^2)": 2.0}
    if model in known:
        return known[model]
    return classify(SIZES, list(truth[:, None])).exponent.estimate


def bootstrap(cell: Passes, random: np.random.Generator, draws: int = 500) -> Array:
    """Percentile bootstrap of a cell's median: passes are drawn first, then rounds of each."""
    samples = np.array(cell)
    passes, rounds = samples.shape
    chosen = random.integers(passes, size=(draws, passes, 1))
    drawn = samples[chosen, random.integers(rounds, size=(draws, passes, rounds))]
    medians: Array = np.median(drawn, axis=(1, 2))
    return medians


def intervals(runs: int, seed: int, cells: int = 200) -> str:
    """The table of what 95 % intervals of a cell's time cover, and of A/A pairs called different.

    In each run every cell has a machine of its own, so the scatter that is learned from all of them
    is not quite that of any.
    """
    random = np.random.default_rng(seed)
    truth = 1e-3
    covers: Counter[str] = Counter()
    differs: Counter[str] = Counter()
    widths: dict[str, float] = defaultdict(float)

    def count(method: str, median: Interval, ratio: Interval) -> None:
        covers[method] += truth in median
        differs[method] += 1 not in ratio
        widths[method] += math.log(median.high / median.low) / 2

    for _ in range(runs):
        pairs = [machine(random).measure(np.array([truth, truth]), random) for _ in range(cells)]
        known = estimates.scatter(cell for pair in pairs for cell in pair)
        for first, second in pairs:
            a, b = bootstrap(first, random), bootstrap(second, random)
            count("bootstrap of passes, then rounds", _percentiles(a), _percentiles(a / b))
            for method, learned in (("t over passes", None), ("t, scatter learned", known)):
                count(
                    method,
                    estimates.median(first, learned),
                    estimates.ratio(first, second, learned),
                )
    total = runs * cells
    return table(
        ["interval of a cell", "covers the truth", "half-width", "A/A pairs called different"],
        [
            [m, f"{covers[m] / total:.1%}", f"{widths[m] / total:.1%}", f"{differs[m] / total:.1%}"]
            for m in covers
        ],
    )


def crossovers(count: int, seed: int) -> str:
    """How often the crossover's interval covers the truth: linear against constant, closed form."""
    random = np.random.default_rng(seed)
    covered = 0
    for _ in range(count):
        overhead, slope = random.uniform(10e-6, 100e-6), math.exp(random.uniform(-18, -14))
        truth = math.exp(random.uniform(math.log(100), math.log(100_000)))
        machines = machine(random)
        linear = machines.measure(overhead + slope * SIZES, random)
        constant = machines.measure(np.full(SIZES.size, overhead + slope * truth), random)
        at = crossover(SIZES, linear, constant, estimates.scatter([*linear, *constant])).at
        covered += at is not None and truth in at
    return f"{covered / count:.1%} of {count} crossovers are covered by their 95 % intervals.\n"


CHANGES = (1.0, 1.05, 1.2, 1.5)


def comparisons(pairs: int, seed: int, cells: int = 700, changed: int = 30) -> str:
    """The tables of what `compare` says of two runs, cells that changed among many that did not.

    Every cell of every run has a factor of its own, the same in all passes (1 to 3 %), and every
    run one that all of its cells share (5 %). In half of the pairs nothing changed; in the others
    `changed` cells did by each of the factors.
    """
    random = np.random.default_rng(seed)
    outcomes: Counter[tuple[float, str]] = Counter()
    false_alarms = wrong = named = 0
    for pair in range(2 * pairs):
        factors = np.ones(cells)
        if pair % 2:
            factors[: changed * len(CHANGES[1:])] = np.repeat(CHANGES[1:], changed)
        old, new = (_run(truth, random) for truth in (np.ones(cells), factors))
        for found in compare(old, new, THRESHOLD, relative=True).cells:
            factor = factors[int(found.cell)]
            outcomes[factor, found.change] += pair % 2
            if found.change in ("faster", "slower"):
                named += pair % 2
                wrong += pair % 2 and factor < 1 + THRESHOLD
                false_alarms += not pair % 2
    names = ("faster", "slower", "same", "ambiguous")
    totals = {factor: sum(outcomes[factor, name] for name in names) for factor in CHANGES}
    rows = [
        [f"{factor:g}", *(f"{outcomes[factor, name] / totals[factor]:.1%}" for name in names)]
        for factor in CHANGES
    ]
    return (
        table(["true ratio", *names], rows)
        + f"\nOf {named} cells called faster or slower, {wrong} had not changed by more than "
        f"{THRESHOLD:.0%}; in {pairs} pairs of runs without a change, {false_alarms} of "
        f"{pairs * cells} cells were called so.\n"
    )


def _run(truth: Array, random: np.random.Generator) -> Measured:
    """A run of cells that truly cost `truth` ms on a machine of its own."""
    own = random.uniform(0.01, 0.03) * random.standard_normal(truth.size)
    shared = 0.05 * random.standard_normal()
    measured = machine(random).measure(1e-3 * truth * np.exp(own + shared), random)
    cells: dict[str, Passes] = {str(index): passes for index, passes in enumerate(measured)}
    return Measured("simulated", cells, estimates.scatter(measured), {})


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded to be read as it is."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |\n"
        for line in lines
    )


def _shares(counts: Counter[tuple[Model, str]], models: Sequence[Model], count: int) -> list[str]:
    """Right, wrong and inconclusive over `models`, as shares of `count` curves each."""
    total = count * len(models)
    right = sum(counts[model, model] for model in models)
    undecided = sum(counts[model, "inconclusive"] for model in models)
    return [f"{part / total:.1%}" for part in (right, total - right - undecided, undecided)]


def _percentiles(draws: Array) -> Interval:
    low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
    return Interval(float(low), float(middle), float(high))


def main() -> int:
    """Run the simulation and print its tables as Markdown; the exit status."""
    parser = Parser(prog="python -m reports.simulation", description=__doc__)
    parser.add_argument(
        "--curves", type=whole(1, 100_000), default=200, help="curves of each model"
    )
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help="of the curves")
    options = parser.parse_args()
    today = datetime.now(UTC).date()
    print(
        f"{today}, {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    )
    print(f"{options.curves} curves of each model, seed {options.seed}\n")
    print(verdicts(options.curves, options.seed))
    print(habits(options.curves, options.seed))
    print(intervals(max(1, options.curves // 10), options.seed))
    print(comparisons(max(1, options.curves // 10), options.seed))
    print(crossovers(options.curves * len(MODELS), options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(terminal.command(main))
