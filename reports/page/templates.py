"""The templates, and what all of them may use: filters for quantities, scripts that may run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reports import units
from reports.page.document import pack

PACKAGE = "reports.page"

SCRIPTS = (
    *("packed.js", "charts.js", "downloads.js", "table.js", "adviser.js"),
    *("workloads.js", "print.js"),
)
"""Run in this order, as one script."""


def fill_in(template: str, values: Mapping[str, Any]) -> Markup:
    """`template`, a path below this folder, with `values` in it; only `Markup` stays unescaped."""
    return Markup(_environment().get_template(template).render(values))


def scripts() -> dict[str, Any]:
    """The page's script, the plotting library packed, and the hashes by which both may run.

    The page may run these two and load nothing: what a name in a results folder might smuggle in
    could neither run nor call home.
    """
    environment = _environment()
    script = "".join(environment.get_template(f"assets/{name}").render() for name in SCRIPTS)
    library, library_hash = _library()
    return {
        "script": script,
        "library": library,
        "script_hashes": [_sha256(script), library_hash],
    }


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE, ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": units.seconds,
        "bytes": units.num_bytes,
        "share": units.share,
        "interval": units.seconds_interval,
        "percent": units.share_interval,
        "ratio": units.times_interval,
        "times": lambda ratio: f"{units.digits(ratio.estimate)}\u00d7",
        "unbroken": lambda text: text.replace("log n", "log\u00a0n"),
    }
    return environment


@cache
def _library() -> tuple[str, str]:
    """The plotting library packed, and the hash by which the page may run it."""
    source = get_plotlyjs()
    return pack(source), _sha256(source)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
