"""Contact with the parts of torch's autograd and compiler that differ from release to release."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch._compile import _disable_dynamo
from torch.autograd import Function


def apply(function: type[Function], *inputs: Any) -> Any:
    """What `function` computes from `inputs`, recorded for the backward.

    `Function.apply` is untyped in some of the releases allowed and typed in others. Looked up by
    its name it is neither, so a check of this package needs no comment that one release wants and
    the next forbids.
    """
    return getattr(function, "apply")(*inputs)  # noqa: B009


def opaque_apply(function: type[Function], *inputs: Any) -> Any:
    """The same, which `torch.compile` leaves as it is.

    Kernels of other compilers are none of its business, and numba, compiling while its own frames
    are watched, fails.
    """
    return (_not_traced if torch.compiler.is_compiling() else apply)(function, *inputs)


# As `torch.compiler.disable`, which would import the whole compiler here and now.
_not_traced = _disable_dynamo(apply)


def graph_is_kept() -> bool:
    """Whether the backward that is running was told to `retain_graph`."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


Untraced = TypeVar("Untraced", bound=Callable[..., Any])


def untraced(function: Untraced) -> Untraced:
    """What `torch.compile` leaves as it is, when it runs within what is compiled."""
    disabled: Callable[..., Any] = _disable_dynamo(function)

    def call(*inputs: Any) -> Any:
        # What makes a function opaque would load the compiler, if it is not there yet.
        return (disabled if "torch._dynamo" in sys.modules else function)(*inputs)

    return cast("Untraced", call)
