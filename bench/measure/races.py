"""A tree head's ways to a prediction: exact search, greedy descent, scoring everything.

Which of them is how fast, and how often greed goes wrong, depends on the weights. Fresh ones are
the worst case: every decision is nearly a toss-up, no search can leave much out, and the likelier
child leads astray. So each is also raced after a quick training on classes in clusters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import heads
from bench.machine.clock import Timer
from heads.greedy import greedy_misses
from heads.search import TreeHead
from heads.trees import Tree
from reports.results import Cell, Race

USUAL_BATCH = 128
"""The batch to race at, where the sweep has it."""

SAMPLES = 1_024
"""Samples on which the answers are compared: a share is then known to 3 points or better."""

RACE_SECONDS = 0.25
"""How long the methods take turns on one model."""

LEAST_ROUNDS, MOST_ROUNDS = 6, 200
"""Fewer bound no median, and more would not narrow it by much."""

SEEN = 2**13
"""Most classes that the quick training looks at; of a million, a fleeting corpus has few too."""

STEPS, STEP_SAMPLES, LEARNING_RATE = 64, 512, 0.3
"""The quick training."""

DIRECTIONS = 1_021
"""A prime, so that nodes of one path or with one parent hardly ever share a direction."""

NOISE = 3.0
"""Spread of a class, where a node's direction has length 1. Together with the training it leaves a
head that is right most of the time and sure of it about as often."""


class Clusters:
    """Samples whose classes resemble each other as they do in a tree.

    Every node of the tree has a direction, and the mean of a class is the sum of those on its path.

    Args:
        tree: whose leaves are the classes.
        in_features: width d of the features.
        seed: of directions, classes seen and samples.
        device: where samples go; they are drawn on the CPU, so that all devices get the same.
    """

    def __init__(self, tree: Tree, in_features: int, seed: int, device: str) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._device = device
        self._paths = tree.paths().cpu()
        directions = torch.randn(DIRECTIONS + 1, in_features, generator=self._generator)
        self._directions = directions / in_features**0.5
        self._directions[DIRECTIONS] = 0  # of what lies past the root
        self.seen = torch.randperm(tree.num_classes, generator=self._generator)[:SEEN]

    def draw(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """One sample of each of `classes`, (N,): features, (N, d), and `classes`."""
        nodes = self._paths[classes]
        nodes = torch.where(nodes < 0, DIRECTIONS, nodes % DIRECTIONS)
        means = self._directions[nodes].sum(dim=1)
        noise = torch.randn(means.shape, generator=self._generator) * NOISE / means.size(1) ** 0.5
        return (means + noise).to(self._device), classes.to(self._device)

    def sample(self, size: int) -> tuple[Tensor, Tensor]:
        """`size` samples of random seen classes."""
        chosen = torch.randint(len(self.seen), (size,), generator=self._generator)
        return self.draw(self.seen[chosen])


def cells(grid: Sequence[Cell]) -> list[Cell]:
    """The cells of `grid` to race in: predictions of tree heads alone, at one batch size."""
    alone = [
        cell
        for cell in grid
        if (cell.scope, cell.phase, cell.replica) == ("isolated", "predict", 0)
        and cell.head in heads.names()
    ]
    batches = sorted({cell.batch for cell in alone})
    batch = USUAL_BATCH if USUAL_BATCH in batches else next(iter(batches), 0)
    trees = {
        name for name in {c.head for c in alone} if isinstance(heads.build(name, 1, 2), TreeHead)
    }
    # Each is raced on samples of its own, whatever the labels and the state of the cell.
    raced: dict[Cell, Cell] = {}
    for cell in alone:
        if cell.batch == batch and cell.head in trees:
            raced.setdefault(replace(cell.subject, labels=""), cell)
    return list(raced.values())


def races(head: Any, batch: int, device: str, timer: Timer, seed: int = 0) -> dict[str, Race]:
    """Race on `head` as it is ("untrained") and on a copy after a quick training ("trained")."""
    clusters = Clusters(head.tree, head.in_features, seed, device)
    return {
        "untrained": race(head, clusters, batch, timer),
        "trained": race(trained(head, clusters), clusters, batch, timer),
    }


def trained(head: Any, clusters: Clusters) -> Any:
    """A copy of `head` after a few steps of Adagrad, which takes row-sparse gradients."""
    # In evaluation, no head makes the optimizer's step itself.
    head = copy.deepcopy(head).eval()
    optimizer = torch.optim.Adagrad(head.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        head(*clusters.sample(STEP_SAMPLES)).loss.backward()
        optimizer.step()
    return head


@torch.no_grad()
def race(head: Any, clusters: Clusters, batch: int, timer: Timer) -> Race:
    """All methods on samples of `clusters`: a batch for the clock, more for the answers."""
    features, classes = clusters.sample(SAMPLES)
    misses, right = 0, 0
    # Scoring everything needs samples x classes numbers at once, so batch by batch.
    for part, target in zip(features.split(batch), classes.split(batch), strict=True):
        exact = head.predict(part)
        misses += int(greedy_misses(head, part, exact).sum())
        right += int((exact == target).sum())
    features = features[:batch]
    calls: dict[str, Callable[[], object]] = {
        "exact": lambda: head.predict(features),
        "greedy": lambda: head.predict(features, search="greedy"),
        "all": lambda: head.log_prob(features).argmax(dim=1),
    }
    return Race(
        seconds={k: np.array(t) for k, t in take_turns(calls, timer, RACE_SECONDS).items()},
        scores={name: scores(call, *features.shape) for name, call in calls.items()},
        samples=SAMPLES,
        misses=misses,
        right=right,
    )


def take_turns(
    calls: Mapping[str, Callable[[], object]], timer: Timer, budget: float
) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one that does not count.

    All have their turn in every round, so that whatever drifts hits them alike.
    """
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    begin, rounds = timer(), 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and timer() - begin < budget):
        for name, call in calls.items():
            started = timer()
            call()
            taken[name].append(timer() - started)
        rounds += 1
    return taken


def scores(call: Callable[[], object], samples: int, in_features: int) -> float:
    """Scores that `call` computes per sample, each a dot product of `in_features` multiply-adds.

    Torch counts the products; of dots with chosen rows it has to be told.
    """
    with FlopCounterMode(display=False, custom_mapping=CHOSEN_DOTS) as counter:
        call()
    operations: int = counter.get_total_flops()
    return operations / (2 * samples * in_features)


def _chosen_dots(
    input: Any, weight: Any, rows: Any, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """Floating-point operations of `heads.kernels.score_pairs`, from the shapes it is given."""
    return int(2 * rows[0] * weight[1])


CHOSEN_DOTS = {torch.ops.aten._embedding_bag_per_sample_weights_backward: _chosen_dots}
