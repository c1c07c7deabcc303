"""What an allocator says when there is no more memory."""

from __future__ import annotations

import torch

_WORDS = "DefaultCPUAllocator", "CUDA error: out of memory"
"""Of the CPU's allocator, and of a GPU on which others have left nothing even to begin with."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is an allocator's way to say no, on the CPU or on CUDA."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
    )
