"""What surrounds a head and cannot take all that it does: PyTorch's wrappers and transforms.

torch says neither publicly. Both questions are asked in this place alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


def in_ddp() -> bool:
    """Whether the call comes from a `DistributedDataParallel`, which averages dense gradients."""
    return DistributedDataParallel._get_active_ddp_module() is not None


def in_func() -> bool:
    """Whether one of `torch.func`'s transforms is at work, which all want plain operators."""
    return bool(torch._C._are_functorch_transforms_active())


def values_are_hidden(tensor: Tensor) -> bool:
    """Whether `torch.func.vmap` keeps one from looking at the values of `tensor`."""
    wrapper = torch._C._functorch
    while in_func() and wrapper.is_functorch_wrapped_tensor(tensor):
        if wrapper.is_batchedtensor(tensor):
            return True
        tensor = wrapper.get_unwrapped(tensor)
    return False
