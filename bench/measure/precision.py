"""What the dtype of a cell means: of weights, of what arrives at the head, of products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

AUTOCAST = "autocast-"


@dataclass(frozen=True)
class Precision:
    """How a cell computes.

    Attributes:
        parameters: dtype of weights, and so of gradients and of an optimizer's state.
        features: dtype of what arrives at a head alone; under autocast, as the layer below gives
            it.
        autocast: dtype in which products are made of float32 weights; None for that of the weights.
        tf32: whether CUDA may round the factors of float32 products to 10 bits. (Convolutions may
            in any case, as torch comes.)
    """

    parameters: torch.dtype
    features: torch.dtype
    autocast: torch.dtype | None = None
    tf32: bool = False

    def entered(self) -> None:
        """Set what torch knows as a setting of the whole process; the next cell sets its own."""
        torch.backends.cuda.matmul.allow_tf32 = self.tf32

    def products(self, device: torch.device) -> AbstractContextManager[object]:
        """Where a forward or a prediction is made: around it and, as in training, no backward.

        No loss is scaled: a `GradScaler` is the training loop's, and costs every head the same.
        """
        if self.autocast is None:
            return nullcontext()
        # Each weight is cast once a call; to keep the result for a second use would only cost.
        return torch.autocast(device.type, self.autocast, cache_enabled=False)


_PLAIN = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}

PRECISIONS: dict[str, Precision] = {
    **{name: Precision(dtype, dtype) for name, dtype in _PLAIN.items()},
    "tf32": Precision(torch.float32, torch.float32, tf32=True),
    **{
        AUTOCAST + name: Precision(torch.float32, _PLAIN[name], autocast=_PLAIN[name])
        for name in ("bfloat16", "float16")
    },
}
"""Value of a cell's `dtype` -> what it means."""


def why_not(dtype: str, device: str) -> str:
    """A line that says why nothing can be measured so, or nothing if it can."""
    if dtype not in PRECISIONS:
        return f"no dtype called {dtype!r}; there are: {', '.join(PRECISIONS)}"
    if PRECISIONS[dtype].tf32 and not device.startswith("cuda"):
        return "tf32 is CUDA's: a CPU makes float32 products of float32 factors"
    return ""
