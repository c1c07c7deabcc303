"""Peers: the public alternatives to our heads, measured in the same cells of the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import cast

from packaging.requirements import Requirement
from torch import nn

from bench.peers import losses, quack
from bench.peers.fasttext import FastText
from bench.peers.gensim import Gensim
from bench.peers.trainer import Trainer
from heads import Phase
from reports.results import PHASES, Cell

__all__ = [
    "PEERS",
    "Peer",
    "Trainer",
    "build",
    "computes",
    "measured_as",
    "names",
    "trainer",
    "why_not",
]


@dataclass(frozen=True)
class Peer:
    """A public alternative to one of our heads.

    Attributes:
        requirement: the distribution that brings it, with the oldest version it was tested with.
        twin: our head that computes the same function, or the nearest: tells how large a cell is.
        phases: what can be measured of it.
        make: a module with a head's interface, from (in_features, num_classes), its parameters on
            torch's default device; or the `Trainer` of a library that trains by itself.
        cuda: whether it runs on CUDA only.
        refuses: a line that says why it computes no such cell, or nothing if it does.
    """

    requirement: str
    twin: str
    phases: tuple[Phase, ...]
    make: Callable[[int, int], nn.Module] | type[Trainer]
    cuda: bool = False
    refuses: Callable[[Cell], str] = lambda cell: ""


LOSS_ALONE: tuple[Phase, ...] = ("forward", "backward", "step", "train")
"""A fused loss predicts nothing: the layer below it does, as in our softmax."""

GRADIENT_IN_FORWARD: tuple[Phase, ...] = ("forward", "step", "train")
"""The gradients are made along with the loss; a backward pass of its own there is not."""

PEERS: dict[str, Peer] = {
    "torch-adaptive": Peer("torch>=2.11", "adaptive", PHASES, losses.adaptive),
    "linear-cross-entropy": Peer("torch>=2.13", "softmax", LOSS_ALONE, losses.linear_cross_entropy),
    "linear-cross-entropy-chunked": Peer(
        "torch>=2.13", "softmax", GRADIENT_IN_FORWARD, losses.linear_cross_entropy_chunked
    ),
    "linear-cross-entropy-auto": Peer(
        "torch>=2.13", "softmax", GRADIENT_IN_FORWARD, losses.linear_cross_entropy_auto
    ),
    "fasttext": Peer(
        "fasttext-numpy2-wheel>=0.9.2", "hierarchical", ("train", "predict"), FastText
    ),
    "gensim": Peer("gensim>=4.4", "hierarchical", ("train",), Gensim),
    "liger": Peer("liger-kernel>=0.8.5", "softmax", GRADIENT_IN_FORWARD, losses.liger, cuda=True),
    "liger-chunked": Peer(
        "liger-kernel>=0.8.5", "softmax", GRADIENT_IN_FORWARD, losses.liger_chunked, cuda=True
    ),
    "cut-cross-entropy": Peer(
        "cut-cross-entropy>=25.1.1", "softmax", LOSS_ALONE, losses.cut_cross_entropy, cuda=True
    ),
    "quack": Peer(
        *("quack-kernels>=0.6.5", "softmax", GRADIENT_IN_FORWARD, quack.quack),
        cuda=True,
        refuses=quack.refuses,
    ),
    "quack-chunked": Peer(
        *("quack-kernels>=0.6.5", "softmax", GRADIENT_IN_FORWARD, quack.quack_chunked),
        cuda=True,
        refuses=quack.refuses,
    ),
}


def names() -> tuple[str, ...]:
    """Every peer there could be, installed or not."""
    return tuple(PEERS)


def why_not(cell: Cell) -> str:
    """A line that says why `cell` cannot be measured, or nothing if it can, or is no peer's."""
    if cell.head not in PEERS:
        return ""
    peer, on_cuda = PEERS[cell.head], cell.device.startswith("cuda")
    if cell.scope != "isolated":
        return f"{cell.head} is measured alone only"
    if cell.phase not in peer.phases:
        return f"{cell.head} has no {cell.phase} phase of its own"
    if peer.cuda and not on_cuda:
        return f"{cell.head} runs on CUDA only"
    if trainer(cell.head) and on_cuda:
        return f"{cell.head} runs on the CPU only"
    if trainer(cell.head) and (cell.labels, cell.state) != ("uniform", "untrained"):
        return (
            f"{cell.head} makes its own data: uniform labels, and no features that can be planted"
        )
    requirement = Requirement(peer.requirement)
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{cell.head} is absent: {requirement.name} is not installed"
    if not requirement.specifier.contains(installed, prereleases=True):
        return f"{cell.head} is absent: it needs {requirement}, {installed} is installed"
    return peer.refuses(cell)


def measured_as(cell: Cell) -> Cell:
    """The cell of our head that tells how much memory `cell` needs; `cell` itself if it is ours."""
    return replace(cell, head=PEERS[cell.head].twin) if cell.head in PEERS else cell


def computes(name: str) -> str:
    """The head of ours whose function the peer called `name` computes; empty if it is no such peer.

    A `Trainer` computes something else: it updates its weights after each sample.
    """
    return PEERS[name].twin if name in PEERS and not trainer(name) else ""


def trainer(name: str) -> type[Trainer] | None:
    """The `Trainer` called `name`, or None if that is a module, ours or a peer's."""
    make = PEERS[name].make if name in PEERS else None
    return make if isinstance(make, type) and issubclass(make, Trainer) else None


def build(cell: Cell) -> nn.Module:
    """The module of a peer's cell, freshly initialised; the peer must not be a `Trainer`."""
    make = cast("Callable[[int, int], nn.Module]", PEERS[cell.head].make)
    return make(cell.features, cell.classes)
