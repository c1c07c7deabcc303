"""Modules of this package that need an optional extra."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def optional(module: str) -> Any:
    """A module whose requirement may be absent, broken or unable to compile: then None.

    Such a requirement may raise whatever it likes on the way.
    """
    try:
        return import_module(module)
    except (Exception, SystemExit):
        return None
