"""Imports torchvision, also beside a torch that cannot load its compiled operators."""

from __future__ import annotations

import importlib
import re
import sys
from functools import cache
from types import ModuleType

import torch

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_MOST_OPERATORS = 64
"""More than torchvision has; an import that still fails then fails for another reason."""


@cache
def datasets() -> ModuleType:
    """The module `torchvision.datasets`.

    The torchvision of the package index is linked against CUDA, so beside a CPU build of torch its
    extension does not load and its operators are never declared. While it is imported, torchvision
    attaches shape functions to these operators, and the import fails at the first one: "operator
    torchvision::nms does not exist". Reading data sets needs none of them. So each operator that an
    attempt misses is declared (a schema without a kernel: calling it still raises) and the import
    is tried again. Any other failure is raised as it is.
    """
    for _ in range(_MOST_OPERATORS):
        try:
            return importlib.import_module("torchvision.datasets")
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            if missing is None:
                raise
            _declare(missing[1])
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
    raise ImportError(f"torchvision misses more than {_MOST_OPERATORS} of its operators")


def transforms() -> ModuleType:
    """The module `torchvision.transforms`."""
    datasets()
    return importlib.import_module("torchvision.transforms")


_libraries: list[torch.library.Library] = []  # a declaration ends with its library object


def _declare(operator: str) -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(f"{operator}(Tensor input) -> Tensor")
    _libraries.append(library)
