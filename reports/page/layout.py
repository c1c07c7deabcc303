"""One self-contained HTML page: no request to anywhere, light and dark, on screen and on paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from reports import units
from reports.page import charts, drawing
from reports.stats.estimates import Interval

# Run in this order, as one script.
SCRIPTS = ("packed.js", "charts.js", "downloads.js", "table.js", "adviser.js", "print.js")


@dataclass(frozen=True)
class Picture:
    """A figure in the page: its SVG and what stands under it."""

    svg: str
    caption: str


def picture(figure: Figure, name: str, caption: str) -> Picture:
    """`figure` for the page; `name` is unique in it."""
    return Picture(drawing.svg(figure, name, caption), caption)


def fill_in(
    *,
    header: str,
    sections: Sequence[tuple[str, str]],
    title: str,
    document: Mapping[str, Any],
    context: Mapping[str, Any],
) -> str:
    """A page from its sections, with the charts' data and library packed into it.

    Args:
        header: template of what stands above the contents.
        sections: name of each section's template, which is its anchor as well, and its title.
        title: of the page, and of what can be downloaded from it.
        document: see `reports.page.layout.charts.document`.
        context: what the templates print.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": units.seconds,
        "bytes": units.num_bytes,
        "share": units.share,
        "interval": _seconds,
        "percent": _percent,
        "ratio": units.times_interval,
        "times": lambda ratio: f"{units.digits(ratio.estimate)}\u00d7",
        "unbroken": lambda text: text.replace("log n", "log\u00a0n"),
    }
    script = "".join(environment.get_template(name).render() for name in SCRIPTS)
    library, library_hash = _library()
    return environment.get_template("layout.html.j2").render(
        **context,
        header=header,
        sections=sections,
        title=title,
        script=script,
        # The page may run these two scripts and load nothing: what a name in a results folder
        # might smuggle in could neither run nor call home.
        script_hashes=[_sha256(script), library_hash],
        measured=charts.pack(charts.dumps(document)),
        library=library,
    )


@cache
def _library() -> tuple[str, str]:
    """The plotting library packed, and the hash by which the page may run it."""
    source = get_plotlyjs()
    return charts.pack(source), _sha256(source)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _seconds(value: Interval | None) -> str:
    return "—" if value is None else units.seconds_interval(value)


def _percent(value: Interval) -> str:
    return f"{units.share(value.estimate)} [{100 * value.low:.1f}, {100 * value.high:.1f}]"
