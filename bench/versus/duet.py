"""The duets: two players alternate in short slices, cell by cell, pair of processes by pair.

What disturbs a machine lasts longer than a slice, so it hits both players and cancels in their
ratio (Bulej et al., "Duet benchmarking: improving measurement accuracy in the cloud", ICPE 2020).
What stays is where the pages of a process happen to lie, and the code that is not shared: that
changes from process to process, by a percent or two, so every cell is played by many pairs of them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from statistics import fmean

from bench.versus.process import CannotPlayError, Player, Revision, Start, nest

PAIR_SECONDS = 4.0
"""That a pair of processes plays, its start included. Shorter would be all start; longer would not
average over what differs between processes."""

MOST_IDLE = 0.5
"""Share of that in which nothing is played: where starting and building take longer (a GPU, or no
nest to fork from), pairs do as well."""

LEAST_PAIRS = 6
"""However short the time: fewer hardly bound anything."""

SLICE_SECONDS = 0.003
"""Well below the tenth of a second in which a shared machine's noise changes."""

LEAD = 8
"""Of so many calls of a slice one more is made before, which does not count: it brings back to the
caches what the other player has driven out."""


@dataclass(frozen=True)
class Cell:
    """What is played."""

    head: str
    phase: str
    classes: int
    batch: int
    features: int
    device: str


@dataclass(frozen=True)
class Played:
    """What the pairs played.

    Attributes:
        blocks: cell -> for each pair of processes, the logarithm of new over old of each block,
            which is a slice of either.
        skipped: why cells are missing, a line each.
    """

    blocks: dict[Cell, list[list[float]]]
    skipped: list[str]


@dataclass(frozen=True)
class Stage:
    """How the players are started.

    Attributes:
        threads: of each player.
        cores: to play on in turn, both players on the same one; none to leave that to the system.
    """

    threads: int = 1
    cores: Sequence[int] = ()


def perform(
    old: Revision,
    new: Revision,
    cells: Iterable[Cell],
    seconds: float,
    stage: Stage,
    seed: int,
    tell: Callable[[int, int], None] = lambda pair, pairs: None,
    now: Callable[[], float] = time.monotonic,
) -> Played:
    """Play all cells for about so many seconds.

    A block of a large cell lasts longer and is as noisy, so its cell is given more time: as the
    root of how long it lasts, by which all cells together become known best (Neyman 1934).

    Args:
        old: one side.
        new: the other.
        cells: what to play; what either side lacks is skipped.
        seconds: to spend; exceeded where that is too little for one pair to play everything once.
        stage: how to start the players.
        seed: of all orders and of the players' weights.
        tell: told the number of each pair as it starts, and of how many.
        now: the clock to keep to.

    Raises:
        PlayerError: a process ended.
    """
    chance = random.Random(seed)
    end = now() + seconds
    blocks: dict[Cell, list[list[float]]] = {cell: [] for cell in cells}
    skipped: dict[str, None] = {}  # in the order of their finding
    idle: list[float] = []  # seconds of each pair
    builds: list[float] = []  # seconds of each

    def skip(cell: Cell, why: str) -> None:
        del blocks[cell]
        skipped[why] = None

    with nest(stage.threads) as player:
        with _both(player, (old, new), None, chance) as players:
            weights = _rehearse(players, blocks)
        for number in count():
            begin = now()
            pairs = number + _pairs_left(number, end - begin, idle)
            until = begin + (end - begin) / (pairs - number)
            tell(number + 1, pairs)
            core = stage.cores[number % len(stage.cores)] if stage.cores else None
            with _both(player, (old, new), core, chance) as players:
                for one in players:
                    have = one.names()
                    for cell in [cell for cell in blocks if cell.head not in have]:
                        skip(cell, f"{cell.head}: {one.revision.name} has no such head")
                idle.append(now() - begin)
                order = chance.sample(list(blocks), len(blocks))
                for place, cell in enumerate(order):
                    asked = now()
                    turns = chance.choice(((0, 1), (1, 0)))
                    try:
                        calls = _build(players, turns, cell, chance.getrandbits(31))
                    except CannotPlayError as error:
                        skip(cell, f"{cell.head} {cell.phase} {cell.classes}: {error}")
                    else:
                        begun = now()
                        builds.append(begun - asked)
                        idle[-1] += builds[-1]
                        left = until - begun - fmean(builds) * (len(order) - place - 1)
                        share = weights[cell] / sum(weights[other] for other in order[place:])
                        found = _play(players, turns, calls, begun + share * left, now)
                        blocks[cell].append(found)
            if not blocks or now() + (now() - begin) / 2 > end:
                break
    return Played(blocks, list(skipped))


def _pairs_left(number: int, seconds: float, idle: Sequence[float]) -> int:
    """How many pairs share so many seconds, after `number` of them.

    Args:
        number: of pairs that have played.
        seconds: left.
        idle: seconds of each of those in which nothing was played.
    """
    length = max(PAIR_SECONDS, min(idle, default=0.0) / MOST_IDLE)
    return max(1, LEAST_PAIRS - number, round(seconds / length))


@contextmanager
def _both(
    player: Start, sides: tuple[Revision, Revision], core: int | None, chance: random.Random
) -> Iterator[tuple[Player, Player]]:
    """A player of either side, in any order: what is free for the second depends on the first."""
    with ExitStack() as started:
        both = {
            side: started.enter_context(player(sides[side], core))
            for side in chance.sample((0, 1), 2)
        }
        yield both[0], both[1]


def _rehearse(players: tuple[Player, Player], cells: Iterable[Cell]) -> dict[Cell, float]:
    """Build everything once, both sides at once: what they compile, all pairs find on the disk.

    That takes seconds of a head, so it would leave the first pair none to play.

    Returns:
        cell -> its weight in the sharing of time.
    """
    weights = {}
    for one in players:
        one.names()
    for cell in cells:
        for one in players:
            one.ask_for({**asdict(cell), "seed": 0})
        slice_seconds = SLICE_SECONDS
        for one in players:
            with suppress(CannotPlayError):  # the first pair says why
                slice_seconds = max(slice_seconds, one.built())
        weights[cell] = math.sqrt(slice_seconds)
    return weights


def _build(players: tuple[Player, Player], turns: tuple[int, int], cell: Cell, seed: int) -> int:
    """Build a cell on both sides; how many calls make a slice."""
    request = {**asdict(cell), "seed": seed}
    a_call = sum(players[side].build(request) for side in turns) / 2
    return max(1, round(SLICE_SECONDS / a_call))


def _play(
    players: tuple[Player, Player],
    turns: tuple[int, int],
    calls: int,
    until: float,
    now: Callable[[], float],
) -> list[float]:
    """Play what is built, one block at least.

    Strictly in turns: who played twice in a row would find the caches warm the second time.
    """
    blocks: list[float] = []
    while True:
        begin = now()
        taken = {side: players[side].play(calls, calls // LEAD) for side in turns}
        blocks.append(math.log(taken[1] / taken[0]))
        if now() + (now() - begin) > until:
            return blocks
