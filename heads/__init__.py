"""Output heads: what is measured. `build` makes one by name, `names` lists them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from heads.adaptive import Adaptive
from heads.base import Cost, Head, HeadOutput, Phase
from heads.gumbel import Gumbel, GumbelNormal
from heads.hierarchical import HierarchicalDense, HierarchicalPadded
from heads.sampled import Sampled
from heads.softmax import Softmax
from heads.softmax_chunked import SoftmaxChunked
from heads.tree_softmax import on_tree
from heads.two_level import TwoLevel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Cost", "Head", "HeadOutput", "Phase", "build", "names"]

_HEADS: dict[str, Callable[..., Head]] = {
    "softmax": Softmax,
    "gumbel": Gumbel,
    "gumbel-normal": GumbelNormal,
    "hierarchical": on_tree,
    "hierarchical-dense": HierarchicalDense,
    "hierarchical-padded": HierarchicalPadded,
    "adaptive": Adaptive,
    "softmax-chunked": SoftmaxChunked,
    "sampled": Sampled,
    "two-level": TwoLevel,
}
_ABSENT: dict[str, str] = {}
"""Why a head is not there. An optional extra may be absent, broken or unable to compile, and raise
whatever it likes on the way; the other heads do without it."""

try:
    from heads.fused import HierarchicalFused
except (Exception, SystemExit) as error:
    _ABSENT["hierarchical-fused"] = (
        "needs the optional extra 'fast' (numba), which does not work here: "
        f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    )
else:
    _HEADS["hierarchical-fused"] = HierarchicalFused


def names() -> tuple[str, ...]:
    """Every head that `build` knows; those of an optional extra only where it works."""
    return tuple(_HEADS)


def build(name: str, in_features: int, num_classes: int, **options: Any) -> Head:
    """The head called `name`, its weights freshly drawn from torch's global generator.

    Args:
        name: one of `names()`.
        in_features: width of the input, at least 1.
        num_classes: number of classes, at least 2.
        options: the head's own; see its class.

    Raises:
        ValueError: unknown name or option (the message lists what exists), a head whose optional
            extra does not work (it says why), or a bad value.
    """
    if name in _ABSENT:
        raise ValueError(f"head {name!r} {_ABSENT[name]}")
    if name not in _HEADS:
        raise ValueError(f"unknown head {name!r}; heads are: {', '.join(_HEADS)}")
    head = _HEADS[name]
    known = list(inspect.signature(head).parameters)[2:]
    for option in options:
        if option not in known:
            raise ValueError(
                f"head {name!r} has no option {option!r}; its options are: "
                f"{', '.join(known) or 'none'}"
            )
    return head(in_features, num_classes, **options)
