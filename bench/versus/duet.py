"""The duets: two players alternate in short slices, cell by cell, pair of processes by pair.

What disturbs a machine lasts longer than a slice, so it hits both players and cancels in their
ratio (Bulej et al., "Duet benchmarking: improving measurement accuracy in the cloud", ICPE 2020).
What stays is where the pages and the code of a process happen to lie: that changes from process to
process, by a percent or two, so every cell is played by several pairs of them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from bench.versus.process import CannotPlayError, Player, Revision, player

PAIR_SECONDS = 10.0
"""That a pair of processes plays, its start included. Shorter would be all start; longer would not
average over what differs between processes."""

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
    """Play all cells for about so many seconds, each cell as long as any other.

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
    pairs = max(LEAST_PAIRS, round(seconds / PAIR_SECONDS))
    blocks: dict[Cell, list[list[float]]] = {cell: [] for cell in cells}
    skipped: dict[str, None] = {}  # in the order of their finding

    def skip(cell: Cell, why: str) -> None:
        del blocks[cell]
        skipped[why] = None

    for number in range(pairs):
        begin = now()
        until = begin + (end - begin) / (pairs - number)
        tell(number + 1, pairs)
        core = stage.cores[number % len(stage.cores)] if stage.cores else None
        with player(old, stage.threads, core) as first, player(new, stage.threads, core) as second:
            players = first, second
            for one in players:
                have = one.names()
                for cell in [cell for cell in blocks if cell.head not in have]:
                    skip(cell, f"{cell.head}: {one.revision.name} has no such head")
            order = chance.sample(list(blocks), len(blocks))
            for place, cell in enumerate(order):
                share = (until - now()) / (len(order) - place)
                try:
                    blocks[cell].append(_duet(players, cell, share, chance, now))
                except CannotPlayError as error:
                    skip(cell, f"{cell.head} {cell.phase} {cell.classes}: {error}")
        if now() + (now() - begin) / 2 > end:
            break
    return Played(blocks, list(skipped))


def _duet(
    players: tuple[Player, Player],
    cell: Cell,
    seconds: float,
    chance: random.Random,
    now: Callable[[], float],
) -> list[float]:
    """Build a cell on both sides and play it, one block at least.

    Strictly in turns: who played twice in a row would find the caches warm the second time.
    """
    until = now() + seconds
    turns = chance.choice(((0, 1), (1, 0)))
    request = {**asdict(cell), "seed": chance.getrandbits(31)}
    a_call = sum(players[side].build(request) for side in turns) / 2
    calls = max(1, round(SLICE_SECONDS / a_call))
    blocks: list[float] = []
    while True:
        begin = now()
        taken = {side: players[side].play(calls, calls // LEAD) for side in turns}
        blocks.append(math.log(taken[1] / taken[0]))
        if now() + (now() - begin) > until:
            return blocks
