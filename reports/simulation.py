"""The benchmark of the method: verdicts and intervals on curves and cells whose truth is known.

    python -m reports.simulation [--curves N] [--seed S] [--oracle | --verdicts RUN ...]

`classify` is judged on the families of `reports/families.py`, which hold far more than the shapes
it considers, beside the rules of google/benchmark and of the big-O package, which see the medians
of the same samples; and the claims that a report would make of those curves. With --oracle, what
could be decided of them at all is shown instead; with --verdicts, what kept runs are said to show,
to be held beside their raw medians.
"""

from __future__ import annotations

import importlib.util
import math
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports import adviser_simulation, duets_simulation, oracle, terminal
from reports.arguments import MOST_SEED, Parser, whole
from reports.compare import THRESHOLD, Measured, compare
from reports.families import DESIGNS, FAMILIES, HELD_OUT, NEAR, OUTCOMES, Outcome, draw, outcome
from reports.findings.claims import check, exponent, judge_growth
from reports.findings.findings import find
from reports.findings.growth import Growth, Order, rank
from reports.findings.verdicts import NOTHING
from reports.results import ResultsError, load, locate
from reports.stats import estimates
from reports.stats.complexity import MODELS, classify, growth
from reports.stats.crossover import crossover
from reports.stats.estimates import Interval, Passes

Array = NDArray[np.float64]
Rule = Callable[[Array, Array], str]

SIZES: Array = np.exp2(np.arange(5, 20))
REFERENCE = Path(__file__).parent / "reference"
PASSES, ROUNDS = 3, 10
HEADBENCH, ALL = "headbench", "all"
DECIDED = ("supported", "contradicted")
FALSE = (("false: counted O(n)", "O(n)", False), ("false: counted O(log n)", "O(log n)", True))
"""Claims that counts vouch for: how often may they still be supported where they are not true?"""

BIG_O = ("O(1)", "O(log n)", "O(n)", "O(n log n)", "O(n^2)")


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


def google_benchmark(n: Array, seconds: Array) -> str:
    """The rule of google/benchmark: `MinimalLeastSq` with `oAuto`, in its src/complexity.cc.

    One coefficient and no intercept, least squares on the absolute times, the smallest root mean
    square error (normalised by the mean time); among its curves is n^3.
    """
    growing: dict[str, Array] = {model: growth(model, n) for model in BIG_O[1:]}
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
    classes = {getattr(models, name): model for name, model in zip(names, BIG_O, strict=True)}
    best, _ = package.infer_big_o_class(n, seconds * 1e6, classes=list(classes))
    return classes[type(best)]


KNOWN = {"O(1)": 0.0, "O(log n)": 0.0, "O(sqrt n)": 0.5, "O(n)": 1.0, "O(n^2)": 2.0}
"""Exponents of growths that are powers, or the limit of powers."""


class Judged(NamedTuple):
    """What every rule, and the claims, said of one curve: rule -> outcome."""

    family: str
    truth: str
    outcomes: Mapping[str, Outcome]
    covered: bool


def judge(family: str, index: int, seed: int) -> Judged:
    """Draw curve `index` of a family, measure it and judge it by every rule."""
    n, truth, samples = draw(family, index, seed)
    verdict = classify(n, samples, draws=0)
    medians = np.array([np.median(taken) for taken in samples])
    said = {HEADBENCH: verdict.within, "google/benchmark": (google_benchmark(n, medians),)}
    if importlib.util.find_spec("big_o"):
        said["big-O"] = (big_o_package(n, medians),)
    outcomes = {rule: outcome(truth.growth, *models) for rule, models in said.items()}
    for name, counted, at_most in (("true claim", truth.growth, False), *FALSE):
        if name == "true claim" and counted not in MODELS:
            continue
        if name != "true claim" and not _false(truth.growth, counted, at_most):
            continue
        order = Order(counted, 0)
        clock = classify(n, samples, expected=[counted], draws=0)
        growing = Growth("simulated", "train", order, order, None, clock)
        answer, _ = judge_growth(growing, counted, at_most=at_most)
        good = "supported" if name == "true claim" else "contradicted"
        outcomes[name] = (
            "right" if answer == good else "wrong" if answer in DECIDED else "inconclusive"
        )
    covered = KNOWN.get(truth.growth, math.nan) in verdict.exponent
    return Judged(family, truth.growth, outcomes, covered)


def _false(truth: str, counted: str, at_most: bool) -> bool:
    """Whether "it grows like what was counted" is plainly false of a curve."""
    beyond = rank(truth) - rank(counted)
    return (beyond if at_most else abs(beyond)) > NEAR


def verdicts(count: int, seed: int, families: Collection[str] = FAMILIES) -> str:
    """The tables of verdicts on `count` curves of each family."""
    tasks = [(family, index, seed) for family in families for index in range(count)]
    with ProcessPoolExecutor() as pool:
        judged = list(pool.map(judge, *zip(*tasks, strict=True), chunksize=max(1, count // 4)))
    rules = list(dict.fromkeys(rule for one in judged for rule in one.outcomes))
    rows = []
    for family in (*families, ALL):
        own = [one for one in judged if family in (one.family, ALL)]
        rows.append([family, *(_shares([one.outcomes.get(rule) for one in own]) for rule in rules)])
    return (
        "Right, right but for a logarithm, wrong and inconclusive, in percent:\n\n"
        + table(["truth", *rules], rows)
        + "\n"
        + table(
            ["truth", "exponent covered by its 95 % interval"],
            [
                [family, f"{np.mean([one.covered for one in judged if one.family == family]):.1%}"]
                for family in families
                if math.isfinite(KNOWN.get(_truth(judged, family), math.nan))
            ],
        )
    )


def _truth(judged: Sequence[Judged], family: str) -> str:
    return next(one.truth for one in judged if one.family == family)


def _shares(outcomes: Sequence[Outcome | None]) -> str:
    """Shares of all outcomes, of those that were judged."""
    counts = Counter(outcomes)
    total = sum(counts[one] for one in OUTCOMES)
    return " ".join(f"{100 * counts[one] / total:4.1f}" for one in OUTCOMES) if total else NOTHING


def of_runs(names: Sequence[str]) -> str:
    """What kept runs are said to show: every verdict beside counts and raw medians."""
    said = ""
    for name in names:
        findings = find(load(locate(name, Path("results"))))
        rows = []
        for growing in findings.growths:
            cells = findings.alone_at(growing.phase, findings.batch)
            medians = [
                f"{1e6 * cell.seconds.estimate:.3g}"
                for cell in cells
                if cell.head == growing.head and cell.seconds
            ]
            counts = {order.model for order in (growing.multiply_adds, growing.bytes) if order}
            verdict = growing.time
            rows.append(
                [
                    f"{growing.head} {growing.phase}",
                    " / ".join(sorted(counts, key=rank)),
                    verdict.said if verdict else NOTHING,
                    str(exponent(verdict)) if verdict else NOTHING,
                    verdict.reason if verdict else NOTHING,
                    " ".join(medians),
                ]
            )
        timed = [growing.time for growing in findings.growths if growing.time]
        named = sum(len(verdict.within) == 1 for verdict in timed)
        nearly = sum(len(verdict.within) > 1 for verdict in timed)
        said += (
            f"{findings.run.name}: of {len(timed)} timed verdicts {named} name a growth, {nearly} "
            "more all but a logarithm\n\n"
        )
        said += table(["head, phase", "counted", "verdict", "exponent", "reason", "us"], rows)
        said += "\n"
        answers = [[claim.name, one.answer, one.because] for claim, one in check(findings)]
        said += table(["claim", "answer", "because"], answers) + "\n"
    return said


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


def held_out(names: Sequence[str]) -> str:
    """How many passes of kept runs lie where the other passes of their cell say, at 95 %.

    Real noise, and nothing simulated: a pass is left out everywhere, the scatter is learned from
    the others. A cell is noisy where its other passes differ by more than three times the usual.
    """
    rows = []
    for name in names:
        cells = find(load(locate(name, Path("results")))).cells
        logs = np.array(
            [[math.log(np.median(p)) for p in c.samples] for c in cells if len(c.samples) == 3]
        )
        held: dict[str, list[bool]] = defaultdict(list)
        for left in range(logs.shape[1] if logs.size else 0):
            others = np.delete(logs, left, axis=1)
            passes = [[np.exp([log]) for log in row] for row in others]
            known = estimates.scatter(passes)
            for row, cell, truth in zip(others, passes, logs[:, left], strict=True):
                noisy = row.std(ddof=1) > 3 * math.sqrt(known.variance)
                mean = estimates.median(cell, known)
                # The mean of two passes errs by sqrt(1/2) of a pass, and the third by all of it.
                within = abs(truth - row.mean()) <= math.sqrt(3) * math.log(
                    mean.high / mean.estimate
                )
                held["noisy" if noisy else "quiet"].append(within)
        if held:
            all_ = [*held["quiet"], *held["noisy"]]
            shares = (f"{np.mean(v):.1%} of {len(v)}" for v in (all_, held["quiet"], held["noisy"]))
            rows.append([Path(name).name, *shares])
    return table(["passes left out, run", "within", "of quiet cells", "of noisy cells"], rows)


QUANTILES = (0.5, 0.75, 0.9)
"""Cells are told apart by how noisy they truly are: the quiet half, and the noisiest tenth."""


def noisy_cells(names: Sequence[str], count: int, seed: int) -> str:
    """What 95 % intervals cover where every cell has the noise of one of a kept run's cells.

    The truth is known, the scatter of each cell is that which its real twin was seen to have.
    """
    random = np.random.default_rng(seed)
    rows = []
    for name in names:
        cells = find(load(locate(name, Path("results")))).cells
        logs = [np.log([np.median(p) for p in c.samples]) for c in cells if len(c.samples) > 1]
        noise = np.array([medians.std(ddof=1) for medians in logs])
        if noise.size < estimates.MANY:
            continue
        kinds = np.digitize(noise, np.quantile(noise, QUANTILES))
        for passes in (2, 3):
            held = [_held(noise, passes, random) for _ in range(max(1, count // noise.size))]
            covers, widths = (np.array(values) for values in zip(*held, strict=True))
            groups = (kinds >= 0, *(kinds == kind for kind in range(len(QUANTILES) + 1)))
            rows.append(
                [f"{Path(name).name}, {passes} passes"]
                + [f"{covers[:, g].mean():.1%} ±{np.median(widths[:, g]):.1%}" for g in groups]
            )
    head = ["covers, half-width", "all", "quiet half", "next quarter", "next", "noisiest tenth"]
    return table(head, rows)


def _held(noise: Array, passes: int, random: np.random.Generator) -> tuple[Array, Array]:
    """For each cell of such noise whether its interval holds the truth, and its half-width."""
    cells = [
        [np.array([math.exp(noisy * random.standard_normal())]) for _ in range(passes)]
        for noisy in noise
    ]
    known = estimates.scatter(cells)
    found = [estimates.median(cell, known) for cell in cells]
    return (
        np.array([1 in interval for interval in found]),
        np.array([math.log(interval.high / interval.estimate) for interval in found]),
    )


GRIDS = {
    "15 sizes, 4.2 decades": SIZES,
    "9 sizes, default": DESIGNS["9 sizes, default"],
    "100, 1,024, 16,384": np.array([100.0, 1024, 16_384]),
}


def crossovers(count: int, seed: int) -> str:
    """How often the crossover's interval covers the truth, and how wide it is.

    A linear head against one that costs the same at every size, in closed form; the truth lies
    anywhere between the smallest and the largest size.
    """
    rows = []
    for grid, n in GRIDS.items():
        random = np.random.default_rng(seed)
        covered, widths = 0, []
        for _ in range(count):
            overhead, slope = random.uniform(10e-6, 100e-6), math.exp(random.uniform(-18, -14))
            truth = math.exp(random.uniform(math.log(2 * n[0]), math.log(n[-1] / 2)))
            machines = machine(random)
            linear = machines.measure(overhead + slope * n, random)
            constant = machines.measure(np.full(n.size, overhead + slope * truth), random)
            at = crossover(n, linear, constant, estimates.scatter([*linear, *constant])).at
            covered += at is not None and truth in at
            if at is not None and at.low > 0 and math.isfinite(at.high):
                widths.append(at.high / at.low)
        rows.append([grid, f"{covered / count:.1%}", f"{np.median(widths):.2f}"])
    return table(["crossovers, by sizes", "covered", "high end over low end"], rows)


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


def _percentiles(draws: Array) -> Interval:
    low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
    return Interval(float(low), float(middle), float(high))


def main() -> int:
    """Run the simulation and print its tables as Markdown; the exit status."""
    parser = Parser(prog="python -m reports.simulation", description=__doc__)
    parser.add_argument(
        "--curves", type=whole(1, 100_000), default=100, help="curves of each family"
    )
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help="of the curves")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--oracle", action="store_true", help="what could be decided at all")
    other.add_argument("--verdicts", nargs="+", metavar="RUN", help="list those of kept runs")
    options = parser.parse_args()
    if options.verdicts:
        try:
            print(of_runs(options.verdicts))
        except ResultsError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0
    today = datetime.now(UTC).date()
    print(
        f"{today}, {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    )
    print(f"{options.curves} curves of each family, seed {options.seed}\n")
    if options.oracle:
        print(oracle.tables(options.curves, options.seed, table))
        print("Held out:\n\n" + oracle.tables(options.curves, options.seed, table, held_out=True))
        return 0
    print(verdicts(options.curves, options.seed))
    print("Held out: " + verdicts(options.curves, options.seed, HELD_OUT))
    print(intervals(max(1, options.curves // 10), options.seed))
    print(comparisons(max(1, options.curves // 20), options.seed))
    kept = [str(run.parent) for run in sorted(REFERENCE.glob("*/journal.jsonl"))]
    print(noisy_cells(kept, options.curves * 50, options.seed))
    print(held_out(kept))
    print(crossovers(options.curves * 5, options.seed))
    print(duets_simulation.tables(max(1, options.curves // 10), options.seed, table))
    print(adviser_simulation.tables(max(1, options.curves // 5), options.seed, table))
    return 0


if __name__ == "__main__":
    sys.exit(terminal.command(main))
