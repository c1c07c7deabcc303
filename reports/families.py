"""Simulated curves whose growth is known: the shapes that machines show, and what noise adds.

A curve is an overhead of 1 and work that takes 2 to 100 times as long at the largest size unless it
says otherwise, in units of 50 us. `FAMILIES` are those that the method was developed on;
`HELD_OUT` has other shapes, sizes and noise, and no constant of the method was chosen by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from reports.stats.complexity import growth

Array = NDArray[np.float64]
Outcome = Literal["right", "nearly", "wrong", "inconclusive"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""Of them "nearly" is right but for a logarithm: one of two that are named."""
Kind = Literal["usual", "one sample", "heavy tails", "coarse clock"]

UNIT = 50e-6
PASSES, ROUNDS = 3, 10
KINDS: tuple[Kind, ...] = ("usual", "usual", "usual", "one sample", "heavy tails", "coarse clock")
NEAR = 0.15
"""A power is found where it is named to within this."""

DESIGNS: Mapping[str, Array] = {
    "9 sizes, default": np.array([16, 100, 256, 512, 1024, 4096, 16384, 65536, 262144.0]),
    "10 sizes, 5.4 decades": np.exp2(np.arange(4, 23, 2)),
    "15 sizes, 4.2 decades": np.exp2(np.arange(5, 20)),
    "5 sizes, 1.5 decades": np.geomspace(256, 8095, 5).round(),
    "5 sizes, 4 decades": np.geomspace(64, 640_000, 5).round(),
    "7 sizes, 2 decades": np.geomspace(100, 10_000, 7).round(),
    "7 sizes, 5 decades": np.geomspace(16, 1.6e6, 7).round(),
    "12 sizes, 3 decades": np.geomspace(100, 100_000, 12).round(),
    "20 sizes, 3 decades": np.geomspace(64, 64_000, 20).round(),
    "20 sizes, 5 decades": np.geomspace(10, 1e6, 20).round(),
}


class Truth(NamedTuple):
    """How a curve truly grows ("O(n^0.73)" where no model does), and its values at the sizes."""

    growth: str
    values: Array


Family = Callable[[Array, np.random.Generator], Truth]


def _times(random: np.random.Generator, low: float = 2, high: float = 100) -> float:
    return math.exp(random.uniform(math.log(low), math.log(high)))


def _top(values: Array) -> Array:
    scaled: Array = values / max(float(values[-1]), 1.0)
    return scaled


def _sum(model: str) -> Family:
    """Overhead and work, one after the other."""
    return lambda n, r: Truth(model, 1 + _times(r) * _top(growth(model, n)))


def _plateau(model: str) -> Family:
    """The longer of overhead and work, as where launches hide it."""
    return lambda n, r: Truth(model, np.maximum(1, _times(r) * _top(growth(model, n))))


def _rise(n: Array, at: float, factor: float, width: float) -> Array:
    """What a class costs: `factor` times as much beyond the decade `at`, over about `width`."""
    risen: Array = 1 + (factor - 1) / (1 + np.exp(-2 * (np.log10(n) - at) / width))
    return risen


def _knee(n: Array, r: np.random.Generator, low: float, high: float) -> Array:
    at = r.uniform(*np.log10(n[[0, -1]]))
    return _rise(n, at, r.uniform(low, high), r.choice([0.02, 0.25, 0.5]))


def _stepped(n: Array, r: np.random.Generator) -> Truth:
    return Truth("O(n)", 1 + _times(r, 2, 1000) * _top(n * _knee(n, r, 1.5, 4)))


def _stepped_late(n: Array, r: np.random.Generator) -> Truth:
    late = np.log10(n[-1]) - r.uniform(0.2, 1.2)
    return Truth("O(n)", 1 + _times(r, 2, 1000) * _top(n * _rise(n, late, r.uniform(3, 5), 0.1)))


def _stepped_twice(n: Array, r: np.random.Generator) -> Truth:
    both = _knee(n, r, 1.3, 2.5) * _knee(n, r, 1.3, 2.5)
    return Truth("O(n)", 1 + _times(r, 2, 1000) * _top(n * both))


def _plateau_and_step(n: Array, r: np.random.Generator) -> Truth:
    return Truth("O(n)", np.maximum(1, _times(r) * _top(n * _knee(n, r, 1.5, 4))))


def _depth(n: Array, r: np.random.Generator) -> Truth:
    return Truth("O(log n)", 1 + _times(r, 0.5, 20) * _top(np.ceil(np.log2(n))))


def _deep(n: Array, r: np.random.Generator) -> Truth:
    x = np.log2(n)
    deeper = x + r.uniform(0.5, 3) * np.maximum(0, x - r.uniform(x[0], x[-1]))
    return Truth("O(log n)", 1 + _times(r, 0.5, 10) * _top(deeper))


def _path_and_sweep(n: Array, r: np.random.Generator) -> Truth:
    return Truth("O(n)", 1 + _times(r, 0.5, 5) * _top(np.log2(n)) + _times(r, 1, 30) * _top(n))


def _power(n: Array, r: np.random.Generator) -> Truth:
    power = r.choice([r.uniform(0.3, 0.45), r.uniform(0.55, 0.85), r.uniform(1.2, 1.8)])
    return Truth(f"O(n^{power:.2f})", 1 + _times(r) * _top(n**power))


def _drift(n: Array, r: np.random.Generator) -> Truth:
    along = np.log(n / n[0]) / math.log(n[-1] / n[0])
    return Truth("O(1)", 1 + r.choice([-1, 1]) * r.uniform(0.04, 0.08) * along)


FAMILIES: Mapping[str, Family] = {
    **{
        f"a + b {model[2:-1]}" if model != "O(1)" else "a": _sum(model)
        for model in ("O(1)", "O(log n)", "O(sqrt n)", "O(n)", "O(n log n)", "O(n^2)")
    },
    **{f"max(a, b {m[2:-1]})": _plateau(m) for m in ("O(n)", "O(n log n)", "O(n^2)")},
    "a + b n, step of 1.5 to 4": _stepped,
    "a + b n, late step of 3 to 5": _stepped_late,
    "a + b n, two steps": _stepped_twice,
    "max(a, b n), step of 1.5 to 4": _plateau_and_step,
    "a + b ceil(log n)": _depth,
    "a + b log n, dearer when deep": _deep,
    "a + b log n + c n": _path_and_sweep,
    "a + b n^p between the models": _power,
    "a, drift of 4 to 8 % with size": _drift,
}


# --- held out ---------------------------------------------------------------------------------


def _wide(model: str, norm: float = 1.0) -> Family:
    """Work of 1 to 1,000 times the overhead, which hides a part of it."""

    def family(n: Array, r: np.random.Generator) -> Truth:
        work = _times(r, 1, 1000) * _top(growth(model, n))
        return Truth(model, (1 + work**norm) ** (1 / norm))

    return family


def _ramp(model: str) -> Family:
    """A class costs up to three times as much beyond some size, at once or over two decades."""

    def family(n: Array, r: np.random.Generator) -> Truth:
        at, width = r.uniform(*np.log10(n[[0, -1]])), r.uniform(0.25, 1)
        ramp = _rise(n, at, r.uniform(1.3, 3), width)
        return Truth(model, 1 + _times(r, 3, 300) * _top(growth(model, n) * ramp))

    return family


def _chunks(n: Array, r: np.random.Generator) -> Truth:
    """Work in whole chunks, as kernels round it up."""
    chunk = math.exp(r.uniform(*np.log(n[[0, -2]])))
    return Truth("O(n)", 1 + _times(r, 3, 300) * _top(np.ceil(n / chunk)))


def _aligned(n: Array, r: np.random.Generator) -> Truth:
    """Odd sizes cost up to a quarter more than even ones."""
    odd = 1 + r.uniform(0.05, 0.25) * (r.random(n.size) < 0.5)
    return Truth("O(n)", 1 + _times(r, 3, 300) * _top(n * odd))


def _launches_and_knee(n: Array, r: np.random.Generator) -> Truth:
    """A plateau that is left late, and a cache that is left later."""
    return Truth("O(n)", np.hypot(1, _times(r, 3, 300) * _top(n * _knee(n, r, 1.3, 3))))


def _three_knees(n: Array, r: np.random.Generator) -> Truth:
    knees = math.prod((_knee(n, r, 1.1, 1.7) for _ in range(3)), start=np.ones_like(n))
    return Truth("O(n)", 1 + _times(r, 3, 300) * _top(n * knees))


def _wide_tree(n: Array, r: np.random.Generator) -> Truth:
    """The depth of a tree of width 2 to 16, rounded up."""
    depth = np.ceil(np.log2(n) / r.integers(1, 5))
    return Truth("O(log n)", 1 + _times(r, 0.5, 30) * _top(depth))


def _cold_tree(n: Array, r: np.random.Generator) -> Truth:
    """Levels outside the caches cost up to three times as much."""
    x = np.log2(n)
    colder = x + r.uniform(0.3, 2) * np.maximum(0, x - r.uniform(x[0], x[-3]))
    return Truth("O(log n)", 1 + _times(r, 0.5, 30) * _top(colder))


def _tail(n: Array, r: np.random.Generator) -> Truth:
    """A linear part that only the largest sizes show, behind one of sqrt n."""
    return Truth("O(n)", 1 + _times(r, 1, 10) * _top(np.sqrt(n)) + _times(r, 3, 100) * _top(n))


def _other_power(low: float, high: float) -> Family:
    def family(n: Array, r: np.random.Generator) -> Truth:
        power = r.uniform(low, high)
        return Truth(f"O(n^{power:.2f})", 1 + _times(r, 3, 300) * _top(n**power))

    return family


def _bump(n: Array, r: np.random.Generator) -> Truth:
    """Nothing grows, but one size falls on a slow path."""
    values = np.ones_like(n)
    values[r.integers(n.size)] *= r.uniform(1.1, 2)
    return Truth("O(1)", values)


def _wandering(n: Array, r: np.random.Generator) -> Truth:
    """Nothing grows, but the machine wanders by 1 to 3 % from size to size."""
    return Truth("O(1)", np.exp(np.cumsum(r.uniform(0.01, 0.03) * r.standard_normal(n.size))))


HELD_OUT: Mapping[str, Family] = {
    **{
        f"wide, a + b {model[2:-1]}" if model != "O(1)" else "wide, a": _wide(model)
        for model in ("O(1)", "O(log n)", "O(sqrt n)", "O(n)", "O(n log n)", "O(n^2)")
    },
    **{
        f"wide, (a^3 + (b {m[2:-1]})^3)^(1/3)": _wide(m, 3)
        for m in ("O(n)", "O(n log n)", "O(n^2)")
    },
    **{f"ramp, a + b {m[2:-1]}": _ramp(m) for m in ("O(sqrt n)", "O(n)", "O(n^2)")},
    "a + b ceil(n / chunk)": _chunks,
    "a + b n, odd sizes dearer": _aligned,
    "hypot(a, b n), knee": _launches_and_knee,
    "a + b n, three knees": _three_knees,
    "a + b ceil(log_w n)": _wide_tree,
    "a + b log n, cold levels": _cold_tree,
    "a + b sqrt n + c n": _tail,
    "a + b n^0.3 to 0.42": _other_power(0.3, 0.42),
    "a + b n^0.6 to 0.8": _other_power(0.6, 0.8),
    "a + b n^1.2 to 1.45": _other_power(1.2, 1.45),
    "a + b n^1.45 to 1.75": _other_power(1.45, 1.75),
    "a, one slow size": _bump,
    "a, wandering": _wandering,
}


class Drawn(NamedTuple):
    """One curve as it was measured: its sizes, the truth, and the samples at each size."""

    n: Array
    truth: Truth
    samples: list[Array]


def draw(family: str, index: int, seed: int) -> Drawn:
    """Curve `index` of a family, measured; the sizes of `index` are the same in all families."""
    random = np.random.default_rng([seed, index, *family.encode()])
    if family in HELD_OUT:
        n = any_sizes(np.random.default_rng([seed, index % len(DESIGNS)]))
        truth = HELD_OUT[family](n, random)
        return Drawn(n, truth, measure_anyhow(truth.values, random))
    n = list(DESIGNS.values())[index % len(DESIGNS)]
    truth = FAMILIES[family](n, random)
    return Drawn(n, truth, measure(truth.values, KINDS[random.integers(len(KINDS))], random))


def any_sizes(random: np.random.Generator) -> Array:
    """5 to 20 sizes over 1.5 to 5 decades, unevenly spaced."""
    count, decades, start = random.integers(5, 21), random.uniform(1.5, 5), random.uniform(1, 2.5)
    even = np.linspace(start, start + decades, count)
    even[1:-1] += random.uniform(-0.3, 0.3, count - 2) * decades / (count - 1)
    sizes: Array = np.unique(np.round(10**even))
    return sizes


def measure_anyhow(values: Array, random: np.random.Generator) -> list[Array]:
    """As `measure`, by a machine of which less is known.

    1 to 5 passes of 1 to 20 rounds; noise of 1 to 8 % with three degrees of freedom; drift of 1 to
    6 % between passes and sizes, and of up to 2 % that a size has in all of its passes.
    """
    passes, rounds = random.integers(1, 6), random.integers(1, 21)
    noise, drift, own = random.uniform([0.01, 0.01, 0.0], [0.08, 0.06, 0.02])
    errors = (
        own * random.standard_normal((values.size, 1, 1))
        + drift * random.standard_normal((values.size, passes, 1))
        + noise * np.clip(random.standard_t(3, (values.size, passes, rounds)), -5, 20)
    )
    return [UNIT * cell.ravel() for cell in values[:, None, None] * np.exp(errors)]


def measure(values: Array, kind: Kind, random: np.random.Generator) -> list[Array]:
    """Samples of cells that truly cost `values`, by a machine that errs, shape (rounds,) each.

    Every round has 2 to 5 % noise, every size in every pass 2 to 5 % drift of its own; 3 % of the
    rounds take 1.5 to 4 times as long. A coarse clock ticks 20 times in the shortest.
    """
    noise, drift = random.uniform(0.02, 0.05), random.uniform(0.02, 0.05)
    shape = (values.size, 1, 1) if kind == "one sample" else (values.size, PASSES, ROUNDS)
    errors = drift * random.standard_normal((*shape[:2], 1)) + noise * random.standard_normal(shape)
    cells = values[:, None, None] * np.exp(errors)
    if kind != "one sample":
        spiked = random.random(shape) < 0.03
        cells = np.where(spiked, cells * random.uniform(1.5, 4, shape), cells)
    if kind == "heavy tails":
        cells = cells * np.exp(np.clip(np.abs(noise * random.standard_t(1.5, shape)), 0, 3))
    if kind == "coarse clock":
        tick = 0.05 * float(values.min())
        cells = np.maximum(1, np.round(cells / tick)) * tick
    return [UNIT * cell.ravel() for cell in cells]


def outcome(truth: str, *said: str) -> Outcome:
    """Whether a verdict names how a curve truly grows; "nearly" if it is one of several."""
    if not said:
        return "inconclusive"
    if not any(_names(truth, one) for one in said):
        return "wrong"
    return "right" if len(said) == 1 else "nearly"


def _names(truth: str, said: str) -> bool:
    power, named = (_exponent(growing) for growing in (truth, said))
    if power is None or named is None:
        return truth == said
    return abs(power - named) <= NEAR


def _exponent(growing: str) -> float | None:
    if growing == "O(sqrt n)":
        return 0.5
    if growing.startswith("O(n^") and growing != "O(n^2)" and growing != "O(n^3)":
        return float(growing[4:-1])
    return None
