"""Launching Triton's kernels with less of Python's time, of which a launch takes most.

Importing this module fails wherever Triton cannot compile.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CHECKED = {"debug": True, "sanitize_overflow": False}
"""Options of a kernel with assertions, of which Triton is to add none of its own."""

_compiled: dict[Hashable, tuple[Any, list[Any]]] = {}
"""By kernel and specialization: what Triton made of it, and the values of its constants."""


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    tensor: Tensor,
    *others: Tensor | int | float,
    **constants: Any,
) -> None:
    """Launch a kernel over a grid, as `kernel[grid](tensor, *others, **constants)` does.

    What Triton compiled for one call is looked up by all that it may have been specialised for, and
    launched as it is, which leaves out the rest of Triton's own way to it. The interpreter, which
    compiles nothing, goes that way.

    Args:
        kernel: from `triton.jit`, of a module; its constants are its last parameters.
        grid: how many programs there are, along one axis or two.
        tensor: its first argument; it and all others are of the current device.
        others: tensors, integers below 2^63, floats.
        constants: by name, all of them, and Triton's options.
    """
    args, device = (tensor, *others), tensor.device
    key = (id(kernel), device, *constants, *constants.values(), *specialization(args))
    found = _compiled.get(key)
    if found is not None:
        compiled, values = found
        stream = torch._C._cuda_getCurrentRawStream(device.index)
        compiled[(*grid, 1, 1)](*args, *values, stream=stream)
        return
    compiled = kernel[grid](*args, **constants)
    if type(compiled).__name__ == "CompiledKernel":
        _compiled[key] = compiled, [constants[name] for name in kernel.arg_names[len(args) :]]


def specialization(args: tuple[Tensor | int | float, ...]) -> list[object]:
    """All of these that a compiled kernel may depend on, or more."""
    kinds: list[object] = []
    for value in args:
        if isinstance(value, Tensor):
            kinds += [value.dtype, value.data_ptr() % 16 == 0]
        elif isinstance(value, int):
            small = -(2**31) <= value < 2**31
            kinds += [type(value), value % 16 == 0, value == 1, small]
        else:
            kinds.append(float)
    return kinds


def power(size: int, most: int = 2**20, least: int = 1) -> int:
    """The power of two that a tile for so many needs, between these bounds."""
    return max(least, min(most, 1 << (max(1, size) - 1).bit_length()))


def blocks(size: int, block: int) -> int:
    """How many blocks cover so many."""
    return -(-size // block)


@cache
def processors(device: torch.device) -> int:
    """How many multiprocessors a device has; of the interpreter's, 1."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def has_tensor_cores(device: torch.device, shared: int) -> bool:
    """Whether a device multiplies bfloat16 and TF32, and has `shared` bytes for a program."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    found = torch.cuda.get_device_properties(device)
    return bool(found.major >= 8 and found.shared_memory_per_block_optin >= shared)


@triton.jit
def _nothing(x):
    tl.store(x, 0.0)


if torch.cuda.is_available():
    _nothing[(1,)](torch.empty(1, device="cuda"))  # raises where nothing can be compiled
