"""The page and the summary: complete, self-contained, escaped, and the same every time."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from rich.console import Console

from reports import summary
from reports.__main__ import main
from reports.findings.findings import Findings, find
from reports.findings.notices import notices
from reports.page import html
from reports.page.figures import drawing
from reports.results import load
from reports.results.files import write_whole
from tests.reports.synthetic import cell, missing, remembered, timed, training, write_run

HOSTILE = "<img src=x onerror=alert(1)>$\\frac$[red]"


class Page(HTMLParser):
    """Elements of a page, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_same_results_give_the_same_bytes(page: str, synthetic: Path, tmp_path: Path) -> None:
    """Also in another folder, for a process that hashes otherwise than this one."""
    elsewhere = tmp_path / "copy" / synthetic.parent.name / synthetic.name
    shutil.copytree(synthetic, elsewhere)
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run(
        [sys.executable, "-m", "reports", str(elsewhere), "--output", str(tmp_path)],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": seed},
        stdout=subprocess.DEVNULL,
    )
    assert (tmp_path / f"{synthetic.name}.html").read_text("utf-8") == page


def test_page_of_a_default_sweep_is_at_most_5_megabytes() -> None:
    reference = Path(html.__file__).parents[1] / "reference" / "cpu"
    assert len(html.render(find(load(reference))).encode()) <= 5e6


def test_page_loads_nothing_from_anywhere(page: str) -> None:
    for tag, attributes in Page(page).elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    assert not re.search(r"@import|url\((?!#)", page)


def test_policy_lets_only_the_own_scripts_run(page: str) -> None:
    policy = next(m["content"] for m in Page(page).all("meta") if "http-equiv" in m)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "'unsafe-inline'" not in policy.split("script-src")[1]
    assert "'unsafe-eval'" not in policy
    scripts = Page(page).all("script")
    assert len([script for script in scripts if "type" not in script]) == 1
    # The rest is data to the browser; what is unpacked from it runs by its hash.
    assert {script["type"] for script in scripts if "type" in script} == {"text/plain"}
    assert len(re.findall(r"'sha256-[\w+/]+='", policy)) == 2


def test_ids_are_unique_and_links_lead_somewhere(page: str) -> None:
    elements = Page(page).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements:
        for name in ("href", "xlink:href"):
            target = attributes.get(name) or ""
            if target.startswith("#"):
                assert target[1:] in ids


def test_page_can_be_read_without_seeing_it(page: str) -> None:
    parsed = Page(page)
    assert all(svg.get("aria-label") for svg in parsed.all("svg"))
    assert len(parsed.all("h1")) == 1
    assert all("scope" in header for header in parsed.all("th"))
    assert parsed.all("html")[0]["lang"] == "en"


@pytest.mark.parametrize(
    "said",
    [
        "Which head is fastest?",
        "sweep <b>synthetic</b>",
        "synthetic CIFAR-100",
        "Synthetic CPU",
        "58.39 s against 61.13 s",
        "16.7 %",
        "Noise floor",
        "needs 17 GiB, 12 GiB are free",
        "aten::addmm",
        "tox -e tensorboard",
    ],
)
def test_page_says(page: str, said: str) -> None:
    assert said in page


def test_the_page_holds_every_raw_sample_for_download(page: str, synthetic: Path) -> None:
    links = [a["href"] for a in Page(page).all("a") if "download" in a]
    (target,) = links
    assert target is not None
    packed = base64.b64decode(target.removeprefix("data:application/gzip;base64,"))
    (document,) = json.loads(gzip.decompress(packed))["runs"]
    run = load(synthetic)
    found = [s for cell in document["cells"] for taken in cell["samples"] for s in taken]
    measured = np.concatenate(list(run.times["seconds"]))
    np.testing.assert_allclose(sorted(found), sorted(measured), rtol=1e-8)
    peaks = [cell["peak_bytes"] for cell in document["cells"] if cell["peak_bytes"] is not None]
    assert sorted(peaks) == sorted(run.memory["peak_bytes"])


def hostile_run(folder: Path, text: str = HOSTILE) -> Path:
    """A run in which every text is an attack on whoever shows it."""
    record = training(text)
    record["dataset"] |= {"name": text, "classes": [text] * 10}
    record["config"] |= {text: text}
    lines = [timed(cell(text, "train", n, 32), 0, [1e-3] * 3) for n in (16, 64, 256)]
    lines.append(missing(cell(text, "step", 16, 32), "failed", text))
    return write_run(
        folder,
        lines=lines,
        trainings=[record, training("failing", status="failed", reason=text, final=None)],
        sweep=text,
        started=text,
        machine={text: text, "cpu": text},
        dataset={"name": text, "stand_in": True, "reason": text},
        options={"heads": [text], text: text},
        passes=text,
    )


@pytest.mark.parametrize(("last", "said"), [(1.0, False), (1.5, True), (0.6, True)])
def test_a_machine_that_changed_between_passes_is_told(
    tmp_path: Path, last: float, said: bool
) -> None:
    lines = [
        timed(cell("softmax", "train", n, 32), k, [1e-6 * n * pace])
        for n in range(10, 40)
        for k, pace in enumerate((1.0, 1.01, last))
    ]
    findings = find(load(write_run(tmp_path / "run", lines=lines, trainings=[])))
    assert any("drifting" in notice.title for notice in notices(findings)) == said


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    text = html.render(find(load(hostile_run(tmp_path / HOSTILE.replace("/", "")))))
    parsed = Page(text)
    assert not parsed.all("img")
    assert not [name for _, found in parsed.elements for name in found if name.startswith("on")]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"dataset": {"name": "noise", "stand_in": True}}, "Stand-in images"),
        ({"finished": None}, "Unfinished"),
        ({"others_busy": 0.5}, "other programs used 50.0"),
        ({"swapped_bytes": 2**20}, "1.00 MiB were swapped"),
        ({}, ""),
    ],
)
def test_page_and_summary_say_what_limits_the_run(
    tmp_path: Path, facts: dict[str, object], said: str
) -> None:
    lines = [timed(cell("softmax", "train", 16, 32), 0, [1e-3])]
    findings = find(load(write_run(tmp_path / "run", lines=lines, trainings=[], **facts)))
    assert len(notices(findings)) == bool(said)
    console = Console(width=200, file=io.StringIO(), record=True)
    summary.show(findings, Path("page.html"), console)
    assert said in html.render(findings)
    assert said.lower() in console.export_text().lower()


@pytest.mark.parametrize(
    ("lines", "trainings"),
    [
        ([], [training("softmax")]),
        ([timed(cell("softmax", "train", 16, 32), 0, [1e-3])], []),
        ([timed(cell("softmax", "train", 16, 32, scope="in-model"), 0, [1e-3])], []),
        ([missing(cell("softmax", "train", 16, 32), "failed", "no luck")], []),
        ([], [training("softmax", status="failed", reason="NaN", final=None, epochs=1)]),
    ],
)
def test_run_with_little_in_it_still_has_a_page(
    tmp_path: Path, lines: list[dict[str, object]], trainings: list[dict[str, object]]
) -> None:
    folder = write_run(tmp_path / "run", lines=lines, trainings=trainings)
    assert main([str(folder), "--output", str(tmp_path / "html")]) == 0
    assert (tmp_path / "html" / "run.html").read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_summary_fits_its_terminal(findings: Findings, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    summary.show(findings, Path("reports/html/run.html"), console)
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= min(width, 80)
    assert "reports/html/run.html" in text
    assert "noise floor" in text


def test_summary_does_not_take_names_for_markup(tmp_path: Path) -> None:
    lines = [timed(cell("[red]head[/red]", "train", 16, 32), 0, [1e-3])]
    console = Console(width=80, file=io.StringIO(), record=True)
    findings = find(load(write_run(tmp_path / "run", lines=lines, trainings=[])))
    summary.show(findings, Path("page.html"), console)
    assert "[red]head[/red]" in console.export_text()


def test_summary_says_stand_in_images(tmp_path: Path) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    summary.show(find(load(hostile_run(tmp_path / "run"))), Path("page.html"), console)
    assert "stand-in images: the training used generated images" in console.export_text()


# --- figures ----------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance as the Web Content Accessibility Guidelines define it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def themes() -> dict[str, dict[str, str]]:
    css = (Path(html.__file__).parent / "assets" / "report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[:2]
    found = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks]
    return dict(zip(("light", "dark"), found, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_of_text_can_be_read(theme: str) -> None:
    colours = themes()[theme]
    for name in set(colours) - {"paper", "sheet", "grid"}:
        assert contrast(colours[name], colours["paper"]) >= 4.5, name


def test_page_and_figures_agree_on_colours() -> None:
    light = themes()["light"]
    assert [light[f"head-{index}"] for index in range(len(drawing.COLOURS))] == list(
        drawing.COLOURS
    )


def test_heads_differ_by_more_than_colour() -> None:
    looks = drawing.styles([f"head {index}" for index in range(16)]).values()
    assert len({(look.marker, str(look.dash)) for look in looks}) == len(drawing.COLOURS)
    assert len({(look.marker, str(look.dash), look.colour) for look in looks}) == 16


# --- the command ------------------------------------------------------------------------------


def test_command_renders_the_newest_run_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, day in (("old", "01"), ("new", "02")):
        write_run(
            tmp_path / "results" / name,
            lines=[timed(cell("softmax", "train", 16, 32), 0, [1e-3])],
            trainings=[],
            started=f"2026-01-{day}T00:00:00+00:00",
        )
    assert main([]) == 0
    assert [path.name for path in Path("reports/html").iterdir()] == ["new.html"]
    assert "reports/html/new.html" in capsys.readouterr().out
    assert main(["old"]) == 0
    assert Path("reports/html/old.html").exists()


def test_figures_are_written_beside_the_page_and_are_the_same_every_time(tmp_path: Path) -> None:
    lines = [timed(cell("soft$max", "train", n, 32), 0, [1e-6 * n] * 3) for n in (16, 64)]
    lines += [remembered(cell("soft$max", "train", n, 32)) for n in (16, 64)]
    run = write_run(tmp_path / "run", lines=lines, trainings=[training("soft$max")])
    for output in ("a", "b"):
        assert main([str(run), "--figure", "--output", str(tmp_path / output)]) == 0
    for name in ("run.svg", "run.png", "run-memory.svg", "run-accuracy.png"):
        written = (tmp_path / "a" / name).read_bytes()
        assert written == (tmp_path / "b" / name).read_bytes()
        assert len(written) > 1000


def test_runs_side_by_side_have_their_training_steps_in_one_figure(tmp_path: Path) -> None:
    def written(name: str, gpu: str) -> str:
        lines = [timed(cell("softmax", "train", n, 32), 0, [1e-6 * n] * 3) for n in (16, 64)]
        return str(write_run(tmp_path / name, lines=lines, trainings=[], machine={"gpu": gpu}))

    runs = [written("a", "A <GPU>"), written("b", "Another"), written("c", "Another")]
    for machines in (runs[:2], runs[1:]):  # one machine may be there twice
        assert main([*machines, "--figure", "--output", str(tmp_path / "out")]) == 0
    drawn = (tmp_path / "out" / "a-and-b.svg").read_text("utf-8")
    for title in ("A &lt;GPU&gt;, batch 32", "Another, batch 32"):
        assert title in drawn
    assert ">b, batch 32<" in (tmp_path / "out" / "b-and-c.svg").read_text("utf-8")


def test_user_errors_are_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("x")
    run = write_run(
        tmp_path / "run", lines=[timed(cell("a", "train", 16, 32), 0, [1.0])], trainings=[]
    )
    foreign = write_run(tmp_path / "foreign", lines=[], trainings=[], schema=99)
    for arguments in (
        [],
        ["nowhere"],
        ["empty"],
        [str(foreign)],
        [str(run), "--output", "a-file/html"],
    ):
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith("error: ")
        assert shown.err.count("\n") == 1


def test_run_json_that_names_another_folder_does_not_decide_where_the_page_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = write_run(
        tmp_path / "results" / "run",
        lines=[timed(cell("a", "train", 16, 32), 0, [1.0])],
        trainings=[],
    )
    facts = json.loads((run / "run.json").read_text()) | {"run": "../../../evil"}
    (run / "run.json").write_text(json.dumps(facts))
    assert main([]) == 0
    assert [path.name for path in tmp_path.rglob("*.html")] == ["run.html"]


def test_a_run_that_fails_keeps_none_of_the_others_from_their_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\ud800\x1b[31m\udcff"
    lines = [timed(cell("softmax", "train", n, 32), 0, [1e-3] * 3) for n in (16, 64)]
    lines.append(missing(cell("softmax", "step", 16, 32), "failed", text))
    record = training("softmax")
    record["dataset"] |= {"name": text, "classes": [f"{text}{n}" for n in range(10)]}
    fine = write_run(tmp_path / "fine", lines=lines[:2], trainings=[])
    odd = os.fsdecode(b"run-\xff")
    hostile = write_run(
        tmp_path / odd, lines=lines, trainings=[record], sweep=text, machine={"cpu": text}
    )
    (tmp_path / "empty").mkdir()
    asked = ["nope", str(hostile), str(tmp_path / "empty"), str(fine)]
    output = tmp_path / "out"
    assert main([*asked, "--output", str(output), "--figure"]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("error: ") == shown.err.count("\n") == 2
    assert "\x1b" not in shown.out + shown.err
    pages = {page.stem for page in output.glob("*.html")}
    assert pages == {odd, "fine", f"{odd}-and-fine"}
    for page in output.glob("*.html"):
        assert page.read_text("utf-8").rstrip().endswith("</html>")
    assert "\N{REPLACEMENT CHARACTER}" in (output / f"{odd}.html").read_text("utf-8")
    assert not list(output.glob("*.draft"))


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "page.html"
    write_whole(path, lambda file: file.write(b"old"))

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]


def test_names_in_figures_are_made_printable() -> None:
    figure, axes = drawing.panel(["a"])
    axes.set_title("half \ud800 \x1b[31m")
    assert r"half \ud800 \x1b[31m" in drawing.svg(figure, "name", "alt")
