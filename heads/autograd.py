"""Contact with the parts of torch's autograd whose annotations differ from release to release."""

from __future__ import annotations

from typing import Any

from torch._compile import _disable_dynamo
from torch.autograd import Function


def apply(function: type[Function], *inputs: Any) -> Any:
    """What `function` computes from `inputs`, recorded for the backward.

    `Function.apply` is untyped in some of the releases allowed and typed in others. Looked up by
    its name it is neither, so a check of this package needs no comment that one release wants and
    the next forbids.
    """
    return getattr(function, "apply")(*inputs)  # noqa: B009


# As `torch.compiler.disable`, which would import the whole compiler here and now.
apply_uncompiled = _disable_dynamo(apply)
"""The same for a function that `torch.compile` cannot look into, and has to leave as it is."""
