"""Output heads: what is measured. `build` makes one by name, `names` lists them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from heads.adaptive import Adaptive
from heads.base import Cost, Head, HeadOutput, Phase
from heads.fused import fused_on_tree
from heads.gumbel import Gumbel, GumbelNormal
from heads.hierarchical import HierarchicalDense, HierarchicalPadded
from heads.options import parse
from heads.sampled import Sampled
from heads.search import TreeHead
from heads.softmax import Softmax
from heads.softmax_chunked import SoftmaxChunked
from heads.tree_softmax import on_tree
from heads.two_level import TwoLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

    from heads.sharding import Sharded

__all__ = [
    "Cost", "Head", "HeadOutput", "Phase", "build", "called", "depends_on_labels", "names", "shard",
]  # fmt: skip

_HEADS: dict[str, Callable[..., Head]] = {
    "softmax": Softmax,
    "gumbel": Gumbel,
    "gumbel-normal": GumbelNormal,
    "hierarchical": on_tree,
    "hierarchical-dense": HierarchicalDense,
    "hierarchical-fused": fused_on_tree,
    "hierarchical-padded": HierarchicalPadded,
    "adaptive": Adaptive,
    "softmax-chunked": SoftmaxChunked,
    "sampled": Sampled,
    "two-level": TwoLevel,
}

FROM_DATA = ("counts", "examples", "order")
"""Options whose values cannot be written in a call on a command line."""


def names() -> tuple[str, ...]:
    """Every head that `build` knows."""
    return tuple(_HEADS)


def called(given: str) -> tuple[str, dict[str, Any]]:
    """The head that a call such as `hierarchical(tree=huffman)` asks for, and its options.

    Options come in the order of the head's own, and without those that have their default, so that
    `options.spell` gives every head one spelling. Whether a value suits depends on the number of
    classes: `build` says so.

    Raises:
        ValueError: not written as a call; an unknown head or option.
    """
    name, options = parse(given)
    known = {
        option: parameter
        for option, parameter in _parameters(name).items()
        if option not in FROM_DATA
    }
    _check_options(name, options, known)
    found: dict[str, Any] = {}
    for option, parameter in known.items():
        if option in options and options[option] != parameter.default:
            value = options[option]
            several = "Sequence" in str(parameter.annotation) and not isinstance(value, str | list)
            found[option] = [value] if several else value
    return name, found


def build(
    name: str,
    in_features: int,
    num_classes: int,
    *,
    class_counts: Sequence[float] | Tensor | None = None,
    **options: Any,
) -> Head:
    """The head called `name`, its weights freshly drawn from torch's global generator.

    Args:
        name: one of `names()`.
        in_features: width of the input, at least 1.
        num_classes: number of classes, at least 2.
        class_counts: how often each class occurs, (num_classes,), for a head that can make use of
            it: its option `counts`; all others do without.
        options: the head's own; see its class.

    Raises:
        ValueError: unknown name or option (the message lists what exists), or a bad value.
    """
    known = _parameters(name)
    _check_options(name, options, known)
    # A tree has a use for counts only if it is made from them, a distribution stands for them.
    by_counts = "tree" not in known or options.get("tree") == "huffman"
    if "counts" in known and by_counts and "distribution" not in options:
        options = {"counts": class_counts} | options
    return _HEADS[name](in_features, num_classes, **options)


def shard(
    head: Head, mesh: DeviceMesh, *, split_batch: bool = False, dense: bool = False
) -> Sharded:
    """Spread the classes of `head` over the ranks of `mesh`: see `heads.sharding.shard`."""
    from heads import sharding  # what it takes of torch takes as long to import as all else

    return sharding.shard(head, mesh, split_batch=split_batch, dense=dense)


def depends_on_labels(name: str, phase: Phase) -> bool:
    """Whether the work of the head called `name` in `phase` may depend on which classes occur.

    For `predict`, that is on which classes are predicted. See `Head.label_phases`.
    """
    phases = _kind(name).label_phases
    return bool(phases - {"predict"}) if phase == "train" else phase in phases


def same_as(name: str, phase: Phase) -> str:
    """The head whose work in `phase` is that of the head called `name`; empty if it has its own.

    See `Head.predicts_as`.
    """
    return _kind(name).predicts_as if phase == "predict" else ""


def _kind(name: str) -> type[Head]:
    head = _HEADS[name]
    return head if isinstance(head, type) and issubclass(head, Head) else TreeHead


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    """The options of the head called `name`."""
    if name not in _HEADS:
        raise ValueError(f"unknown head {name!r}; heads are: {', '.join(_HEADS)}")
    return dict(list(inspect.signature(_HEADS[name]).parameters.items())[2:])


def _check_options(name: str, options: Iterable[str], known: Iterable[str]) -> None:
    for option in options:
        if option not in known:
            raise ValueError(
                f"head {name!r} has no option {option!r}; its options are: "
                f"{', '.join(known) or 'none'}"
            )
