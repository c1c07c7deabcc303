"""How long a call would take on more ranks than were measured: a model of its parts.

    T(P) = local(work / P) (1 + waiting) + collectives * latency * rounds(P) + bytes(P) / bandwidth

What a rank computes by itself is a constant and its part of the work, as measured on few ranks and
corrected where it was; what the ranks tell each other follows Hockney's model of a link ("The
communication challenge for MPP: Intel Paragon and Meiko CS-2", Parallel Computing 20, 1994), its
bytes by the algorithms that send the fewest, which are rings (Thakur et al., "Optimization of
collective communication operations in MPICH", IJHPCA 19, 2005). There, too: a collective of few
bytes takes as many rounds as P has bits, if it is made along a tree, and on hardware that
multicasts one; how latency grows cannot be seen on two ranks, so the interval holds both. Whoever
is ready first waits for the others: a share of what they compute.

An interval holds what the measurements leave open: the model is fitted to them as they are and, so
many times, as they might have been.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from reports.stats.estimates import Interval

Array = NDArray[np.float64]

DRAWS = 200
"""Fits to what might have been measured."""

ENDS = (2.5, 50.0, 97.5)
"""Percentiles of an interval and its estimate."""

USUAL_MISS = 0.1
"""What a law is off by, of the logarithm, where too little was measured to see it."""

LEAST_MISS = 0.01

PULLS = (-3.0, -0.5)
"""Powers of ten, of a standard error: what holds the parts of a link near nothing, each draw its
own way, so that parts that cannot be told apart are anything between them."""

SENT: Mapping[str, tuple[float, float]] = {
    "all_gather": (1, 0),
    "all_reduce": (2, 1),
    "reduce_scatter": (1, 0),
    "broadcast": (0, 0),
}
"""Of a collective on P ranks: a and b in a (P - 1) / P^b, the bytes that each rank has to send of
each byte; of a broadcast, all of them."""


@dataclass(frozen=True)
class Told:
    """What the ranks told each other in a call.

    Attributes:
        collectives: how many.
        bytes: that each rank sent.
        local: seconds that it computed meanwhile.
        seconds: of the collectives together, waiting included.
        error: standard error of their logarithm.
    """

    collectives: int
    bytes: float
    local: float
    seconds: float
    error: float


@dataclass(frozen=True)
class Share:
    """What a rank computes by itself in a call.

    Attributes:
        work: of one rank, in any unit.
        seconds: that it takes.
        error: standard error of their logarithm.
        shared: whether it is of several ranks; else of a head that is whole.
    """

    work: float
    seconds: float
    error: float
    shared: bool


@dataclass(frozen=True, eq=False)
class Link:
    """What telling costs.

    Attributes:
        draws: latency in seconds, seconds per byte, waiting as a share of what is computed: (D, 3).
        miss: what the model is off by, a standard deviation of the logarithm.
        ranks: that it was measured on.
    """

    draws: Array
    miss: float
    ranks: int

    @property
    def latency(self) -> Interval:
        """Seconds of a collective without bytes."""
        return _interval(self.draws[:, 0])

    @property
    def bandwidth(self) -> Interval:
        """Bytes per second; infinite where nothing tells of a limit."""
        low, estimate, high = np.percentile(self.draws[:, 1], ENDS[::-1])
        return Interval(*(1 / float(one) if one else math.inf for one in (low, estimate, high)))

    @property
    def waiting(self) -> Interval:
        """Share of what is computed."""
        return _interval(self.draws[:, 2])

    def seconds(
        self, ranks: int, collectives: int, size: float, local: Array, tree: float
    ) -> Array:
        """Of the collectives of a call: (D,).

        Args:
            ranks: that tell each other something.
            collectives: how many.
            size: bytes that each rank sends.
            local: seconds that it computes, (D,).
            tree: how latency grows with the ranks, from 0, not at all, to 1, with their bits.
        """
        rounds = 1 + tree * (math.log2(ranks) / math.log2(self.ranks) - 1)
        told: Array = self.draws @ np.array([collectives * rounds, size, 0.0])
        return told + self.draws[:, 2] * local


@dataclass(frozen=True, eq=False)
class Local:
    """What a rank's part of the work takes.

    Attributes:
        law: seconds at no work, and per unit of it: (D, 2).
        whole: logarithms of the works of whole heads, ascending, and what each adds to the
            logarithm of the law: (K,), (D, K).
        shared: likewise of ranks' parts, on top of it.
        miss: what it is off by an octave away from these, a standard deviation of the logarithm.
        noise: (D,), standard normal.
    """

    law: Array
    whole: tuple[Array, Array]
    shared: tuple[Array, Array]
    miss: float
    noise: Array

    def seconds(self, work: float) -> Array:
        """Of so much work: (D,)."""
        at = math.log(work)
        added = sum(_between(at, *sites) for sites in (self.whole, self.shared))
        octaves = float(np.abs(self.shared[0] - at).min()) / math.log(2)
        off = self.miss * math.sqrt(octaves) * self.noise
        seconds: Array = (self.law @ np.array([1.0, work])) * np.exp(added + off)
        return seconds


def link(calls: Sequence[Told], ranks: int) -> Link | None:
    """The link that explains what was told; None where nothing took time.

    Args:
        calls: of different sizes; what all have in common cannot be told apart.
        ranks: of all of them.
    """
    calls = [one for one in calls if one.seconds > 0]
    if not calls:
        return None
    seconds = np.array([one.seconds for one in calls])
    error = np.array([one.error for one in calls])
    parts = np.array([(one.collectives, one.bytes, one.local) for one in calls], dtype=np.float64)
    missed = np.log(np.maximum(parts @ _fitted(parts, seconds), 1e-300) / seconds)
    degrees = len(calls) - parts.shape[1]
    miss = USUAL_MISS
    if degrees > 0:
        miss = math.sqrt(max(0.0, float((missed**2).sum()) / degrees - float((error**2).mean())))
    spread = np.hypot(error, max(miss, LEAST_MISS))
    random = np.random.default_rng(0)
    draws = [
        _fitted(
            parts,
            seconds * np.exp(spread * random.standard_normal(len(calls))),
            1 / spread,
            np.power(10, random.uniform(*PULLS, parts.shape[1])),
        )
        for _ in range(DRAWS)
    ]
    return Link(np.array(draws), max(miss, LEAST_MISS), ranks)


def local(shares: Sequence[Share]) -> Local | None:
    """The law of what a rank computes; None where there are not two sizes, or no rank's part."""
    shares = sorted((one for one in shares if one.seconds > 0), key=lambda one: one.work)
    if len({one.work for one in shares}) < 2 or not any(one.shared for one in shares):
        return None
    work = np.array([one.work for one in shares])
    seconds = np.array([one.seconds for one in shares])
    error = np.array([one.error for one in shares])
    shared = np.array([one.shared for one in shares])
    parts = np.stack([np.ones_like(work), work], axis=1)
    random = np.random.default_rng(1)
    taken = seconds * np.exp(error * random.standard_normal((DRAWS, len(shares))))
    law = np.array([_fitted(parts, one, 1 / np.maximum(error, LEAST_MISS)) for one in taken])
    missed = np.log(taken / (law @ parts.T))
    logs = np.log(work)
    whole = _sites(logs[~shared], missed[:, ~shared])
    rest = missed - np.stack([_between(at, *whole) for at in logs], axis=1)
    sites = _sites(logs[shared], rest[:, shared])
    off = np.median(sites[1], axis=0)
    miss = float(np.std(off, ddof=1)) if off.size > 1 else USUAL_MISS
    return Local(law, whole, sites, max(miss, LEAST_MISS), random.standard_normal(DRAWS))


def predicted(
    local: Local, link: Link, work: float, seen: Told, size: float, ranks: int
) -> Interval:
    """Seconds of a call on so many ranks.

    Args:
        local: of the head.
        link: between its ranks.
        work: of one rank.
        seen: a call like it on the ranks that the link was measured on: what the link is off by
            there, it is taken to be off by here.
        size: bytes that each rank sends.
        ranks: how many.
    """
    own = local.seconds(work)
    random = np.random.default_rng(2)
    there = link.seconds(link.ranks, seen.collectives, seen.bytes, np.full(DRAWS, seen.local), 0.0)
    off = np.divide(seen.seconds, there, out=np.ones(DRAWS), where=there > 0)
    off *= np.exp(math.hypot(seen.error, link.miss) * random.standard_normal(DRAWS))

    def at(tree: float, end: float) -> float:
        told = off * link.seconds(ranks, seen.collectives, size, own, tree)
        return float(np.percentile(own + told, end))

    return Interval(*map(at, (0.0, 0.5, 1.0), ENDS))


def sent(each: Mapping[str, float], ranks: int, other: int, borders: bool = False) -> float:
    """Bytes that each of `other` ranks would send, from what each of `ranks` does.

    Args:
        each: collective -> bytes.
        ranks: that sent them, at least 2.
        other: likewise.
        borders: whether what is summed is there once for each border between two ranks.
    """
    return sum(
        size * _factor(name, other, borders) / _factor(name, ranks, borders)
        for name, size in each.items()
    )


def _factor(name: str, ranks: int, borders: bool) -> float:
    times, power = SENT[name]
    once = ranks - 1 if borders and name == "all_reduce" else 1
    return once * (times * (ranks - 1) / ranks**power if times else 1.0)


def _fitted(
    parts: Array, values: Array, weights: ArrayLike = 1.0, pulls: Array | None = None
) -> Array:
    """Coefficients of at least 0, by relative errors: (N, K), (N,) -> (K,).

    Args:
        parts: what each is multiplied by.
        values: their sum, positive.
        weights: of each value, (N,) or one.
        pulls: of each coefficient, towards nothing: (K,).
    """
    rows = parts / values[:, None]
    size = rows.max(axis=0)
    used = size > 0
    rows = rows[:, used] / size[used] * np.reshape(weights, (-1, 1))
    wanted = np.broadcast_to(np.asarray(weights, dtype=np.float64), values.shape)
    if pulls is not None:
        rows = np.concatenate([rows, np.diag(pulls[used])])
        wanted = np.concatenate([wanted, np.zeros(len(rows) - len(wanted))])
    found = np.zeros(parts.shape[1])
    found[used] = optimize.nnls(rows, wanted)[0] / size[used]
    return found


def _sites(logs: Array, missed: Array) -> tuple[Array, Array]:
    """Means of what is missed at each place: (N,), (D, N) -> (K,), (D, K)."""
    places = np.unique(logs)
    means = [missed[:, logs == place].mean(axis=1) for place in places]
    return places, np.stack(means, axis=1) if means else np.zeros((len(missed), 0))


def _between(at: float, places: Array, values: Array) -> Array:
    """Values at a place, straight between those around it, and the last one beyond: -> (D,)."""
    if not places.size:
        return np.zeros(len(values))
    weights = [np.interp(at, places, one) for one in np.eye(places.size)]
    found: Array = values @ np.array(weights)
    return found


def _interval(draws: Iterable[float]) -> Interval:
    return Interval(*(float(one) for one in np.percentile(np.array(draws), ENDS)))
