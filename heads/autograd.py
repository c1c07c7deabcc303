"""Contact with the parts of torch's autograd whose annotations differ from release to release."""

from __future__ import annotations

from typing import Any

from torch.autograd import Function


def apply(function: type[Function], *inputs: Any) -> Any:
    """What `function` computes from `inputs`, recorded for the backward.

    `Function.apply` is untyped in some of the releases allowed and typed in others. Looked up by
    its name it is neither, so a check of this package needs no comment that one release wants and
    the next forbids.
    """
    return getattr(function, "apply")(*inputs)  # noqa: B009
