"""The page in a real browser, offline: silent, self-sufficient, and usable on a phone."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import units
from reports.findings.findings import Findings, find
from reports.findings.joined import Cell
from reports.page import html
from reports.results import load
from tests.reports.synthetic import cell, timed, write_run
from tests.reports.test_report import HOSTILE, hostile_run
from tests.reports.test_side_by_side import write_pair

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver (Debian: chromium chromium-driver)",
)

DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def address(page: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("html") / "page.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    # A container's root has no sandbox to offer, and its /dev/shm is small.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def show(browser: Any, address: str, size: tuple[int, int], theme: str) -> None:
    """Open the page afresh, with the network off."""
    width, height = size
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "", "features": [{"name": "prefers-color-scheme", "value": theme}]},
    )
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)


def requests(browser: Any) -> list[str]:
    """Addresses that the page asked for since it was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_opens_in_silence(
    browser: Any, address: str, size: tuple[int, int], theme: str
) -> None:
    show(browser, address, size, theme)
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith("data:")] == [address]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_only_tables_scroll_sideways(browser: Any, address: str, size: tuple[int, int]) -> None:
    show(browser, address, size, "light")
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]


# --- charts -----------------------------------------------------------------------------------


def drawn(browser: Any, kind: str) -> Any:
    """Bring a chart into view and wait until the library has drawn it."""
    chart = browser.find_element("css selector", f"[data-chart={kind}]")
    browser.execute_script("arguments[0].scrollIntoView()", chart)
    place = chart.find_element("css selector", ".place")
    WebDriverWait(browser, 20).until(lambda _: place.get_attribute("data-drawn"))
    return chart


def traces(browser: Any, chart: Any) -> list[dict[str, Any]]:
    """What a chart draws once it has settled, with names where it draws points of a head."""
    script = """
        const done = arguments[arguments.length - 1];
        setTimeout(() => done(arguments[0].querySelector(".place").data.map(
            ({name, x, y, error_y}) => ({name, x, y, error_y}))), 300);
    """
    found: list[dict[str, Any]] = browser.execute_async_script(script, chart)
    return found


def choose(chart: Any, name: str, value: str) -> None:
    Select(chart.find_element("name", name)).select_by_value(value)


def measured(
    findings: Findings, phase: str, batch: int, value: Callable[[Cell], float | None]
) -> dict[str, list[float]]:
    """Head -> a value at every class count, from the results folder."""
    found: dict[str, list[float]] = {}
    for one in sorted(findings.alone_at(phase, batch), key=lambda one: one.classes):
        if (y := value(one)) is not None:
            found.setdefault(one.head, []).append(y)
    return found


def named(lines: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {line["name"]: line["y"] for line in lines if line.get("name")}


@pytest.mark.parametrize(
    ("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"]
)
def test_charts_are_drawn_in_silence(
    browser: Any, address: str, size: tuple[int, int], theme: str
) -> None:
    show(browser, address, size, theme)
    for kind in ("time", "memory", "accuracy"):
        drawn(browser, kind)
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith(("data:", "blob:"))] == [address]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]


def test_time_chart_shows_what_was_measured_for_every_choice(
    browser: Any, address: str, findings: Findings
) -> None:
    show(browser, address, DESKTOP, "light")
    chart = drawn(browser, "time")

    def seconds(cell: Cell) -> float | None:
        return cell.seconds.estimate if cell.seconds else None

    assert named(traces(browser, chart)) == measured(findings, "train", findings.batch, seconds)
    for phase, batch in (("forward", 128), ("predict", 32)):
        choose(chart, "phase", phase)
        choose(chart, "batch", str(batch))
        assert named(traces(browser, chart)) == measured(findings, phase, batch, seconds)
    label = chart.find_element("css selector", ".place").get_attribute("aria-label")
    assert label == "Time against the number of classes: Prediction, 32, logarithmic"


def test_memory_chart_shows_bytes_to_the_byte(
    browser: Any, address: str, findings: Findings
) -> None:
    show(browser, address, DESKTOP, "light")
    chart = drawn(browser, "memory")
    for part in ("peak", "total"):

        def of(cell: Cell, part: str = part) -> float | None:
            return getattr(cell.memory, part) if cell.memory else None

        choose(chart, "part", f"{part}_bytes")
        assert named(traces(browser, chart)) == measured(findings, "train", findings.batch, of)


def test_heads_can_be_left_out_by_keyboard(browser: Any, address: str) -> None:
    show(browser, address, DESKTOP, "light")
    chart = drawn(browser, "time")
    box = chart.find_element("css selector", "input[value=softmax]")
    box.send_keys(Keys.SPACE)
    assert "softmax" not in named(traces(browser, chart))
    everything = chart.find_element("css selector", "[data-all]")
    everything.send_keys(Keys.ENTER)
    assert "softmax" in named(traces(browser, chart))
    everything.send_keys(Keys.ENTER)
    assert named(traces(browser, chart)) == {}
    assert "Nothing was measured for this choice" in chart.text


def test_axes_become_linear(browser: Any, address: str) -> None:
    show(browser, address, DESKTOP, "light")
    chart = drawn(browser, "time")
    kinds = (
        "const l = arguments[0].querySelector('.place').layout; return [l.xaxis.type, l.yaxis.type]"
    )
    assert browser.execute_script(kinds, chart) == ["log", "log"]
    choose(chart, "scale", "linear")
    traces(browser, chart)
    assert browser.execute_script(kinds, chart) == ["linear", "linear"]


def test_pointing_at_a_point_tells_value_interval_and_samples(
    browser: Any, address: str, findings: Findings
) -> None:
    show(browser, address, DESKTOP, "light")
    chart = drawn(browser, "time")
    script = """
        const place = arguments[0].querySelector(".place");
        const curve = place.data.findIndex((line) => line.name === "softmax");
        Plotly.Fx.hover(place, [{ curveNumber: curve, pointNumber: 3 }]);
        return place.querySelector(".hoverlayer").textContent;
    """
    said = browser.execute_script(script, chart)
    cell = [c for c in findings.alone_at("train", findings.batch) if c.head == "softmax"][3]
    assert cell.seconds is not None
    assert "softmax" in said
    assert f"{cell.classes:,} classes" in said
    for seconds in (cell.seconds.estimate, cell.seconds.low, cell.seconds.high):
        assert f"{1e6 * seconds:.3g}µs" in said
    assert f"{cell.rounds} samples in {len(cell.samples)} passes" in said
    fit = next(g.time for g in findings.growths if (g.head, g.phase) == ("softmax", "train"))
    assert fit is not None
    assert fit.model != "inconclusive"
    assert f"fit: {fit.model}" in said


def test_theme_reaches_the_charts(browser: Any, address: str) -> None:
    seen = []
    for theme in ("light", "dark"):
        show(browser, address, DESKTOP, theme)
        chart = drawn(browser, "time")
        script = "return arguments[0].querySelector('.place').layout.font.color.trim()"
        seen.append(browser.execute_script(script, chart))
    assert seen[0] != seen[1]


def test_names_are_no_markup_in_charts(browser: Any, tmp_path: Path) -> None:
    hostile = find(load(hostile_run(tmp_path / "run")))
    page = tmp_path / "page.html"
    page.write_text(html.render(hostile), encoding="utf-8")
    show(browser, page.as_uri(), DESKTOP, "light")
    chart = drawn(browser, "time")
    script = """
        const place = arguments[0].querySelector(".place");
        const curve = place.data.findIndex((line) => line.name);
        Plotly.Fx.hover(place, [{ curveNumber: curve, pointNumber: 0 }]);
        const said = place.querySelector(".hoverlayer").textContent;
        return [said, document.querySelectorAll("img").length];
    """
    said, images = browser.execute_script(script, chart)
    assert HOSTILE in said
    assert images == 0
    assert browser.get_log("browser") == []


# --- downloads and paper ----------------------------------------------------------------------


def download(browser: Any, kind: str, name: str, folder: Path) -> str:
    """Press a download's button and wait for the file."""
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    button = browser.find_element("css selector", f"button[data-download={kind}]")
    browser.execute_script("arguments[0].click()", button)
    path = folder / f"{name}.{kind}"
    WebDriverWait(browser, 20).until(lambda _: path.exists())
    return path.read_text(encoding="utf-8")


def test_downloads_hold_what_was_measured(
    browser: Any, address: str, findings: Findings, tmp_path: Path
) -> None:
    show(browser, address, DESKTOP, "light")
    table = download(browser, "csv", findings.run.name, tmp_path)
    rows = list(csv.DictReader(io.StringIO(table)))
    (run,) = json.loads(download(browser, "json", findings.run.name, tmp_path))["runs"]
    assert len(rows) == len(run["cells"]) == len(findings.cells)
    for row, said, known in zip(rows, run["cells"], findings.cells, strict=True):
        assert row["head"] == said["head"] == known.head
        assert int(row["classes"]) == said["classes"] == known.classes
        passes = [taken.split() for taken in row["samples"].split(";")]
        assert [[float(s) for s in taken] for taken in passes] == (said["samples"] or [[]])


def test_a_name_is_no_formula_and_no_second_column_in_the_csv(browser: Any, tmp_path: Path) -> None:
    lines = [timed(cell('=1+1,"x"', "train", 16, 32), 0, [1e-3])]
    findings = find(load(write_run(tmp_path / "run", lines=lines, trainings=[])))
    page = tmp_path / "page.html"
    page.write_text(html.render(findings), encoding="utf-8")
    show(browser, page.as_uri(), DESKTOP, "light")
    (row,) = csv.DictReader(io.StringIO(download(browser, "csv", "run", tmp_path)))
    assert row["head"] == '\'=1+1,"x"'
    assert float(row["samples"]) == 1e-3


def test_paper_shows_what_is_folded_and_still_figures_in_place_of_charts(
    browser: Any, address: str
) -> None:
    show(browser, address, DESKTOP, "light")
    drawn(browser, "time")
    script = """
        const shown = (selector) => [...document.querySelectorAll(selector)]
            .filter((one) => one.checkVisibility({ contentVisibilityAuto: true })).length;
        return [shown("[data-chart]"), shown("details.still svg"), shown("#all-cells")];
    """
    charts, figures, table = browser.execute_script(script)
    assert charts
    assert (figures, table) == (0, 0)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    charts, figures, table = browser.execute_script(script)
    assert (charts, table) == (0, 0)
    assert figures == browser.execute_script(
        "return document.querySelectorAll('details.still svg').length"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(script)[1] == 0


def test_without_scripts_the_still_figures_and_the_table_are_there(
    browser: Any, address: str
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, address, DESKTOP, "light")
        assert browser.find_element("css selector", "details.still svg").is_displayed()
        assert not browser.find_element("css selector", "[data-chart]").is_displayed()
        assert browser.find_element("css selector", "a#measured").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# --- several runs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Findings], str]:
    """Two runs, and where their page is."""
    folder = tmp_path_factory.mktemp("pair")
    pair = [find(load(run)) for run in write_pair(folder)]
    page = folder / "both.html"
    text = html.render_side_by_side(pair, ["slow.html", "fast.html"], "both")
    page.write_text(text, encoding="utf-8")
    return pair, page.as_uri()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_runs_side_by_side_keep_their_marks(
    browser: Any, side_by_side: tuple[list[Findings], str], size: tuple[int, int]
) -> None:
    pair, page = side_by_side
    show(browser, page, size, "light")
    chart = drawn(browser, "time")
    lines = named(traces(browser, chart))
    for letter, findings in zip("AB", pair, strict=True):
        for head in ("softmax", "gumbel"):
            cells = [c for c in findings.alone_at("train", 128) if c.head == head]
            assert lines[f"{head} in {letter}"] == [c.seconds.estimate for c in cells if c.seconds]
    chart.find_element("css selector", "input[name=runs][value='1']").send_keys(Keys.SPACE)
    assert set(named(traces(browser, chart))) == {"softmax in A", "gumbel in A"}
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.get_log("browser") == []


# --- figures and tables -----------------------------------------------------------------------


def test_theme_reaches_the_figures(browser: Any, address: str) -> None:
    script = """
        const text = document.querySelector("figure svg text");
        return [getComputedStyle(document.body).backgroundColor, getComputedStyle(text).fill];
    """
    seen = []
    for theme in ("light", "dark"):
        show(browser, address, DESKTOP, theme)
        seen.append(browser.execute_script(script))
    (light_paper, light_ink), (dark_paper, dark_ink) = seen
    assert light_paper != dark_paper
    assert light_ink != dark_ink


def test_table_of_heads_shows_what_was_measured(
    browser: Any, address: str, findings: Findings
) -> None:
    show(browser, address, DESKTOP, "light")
    script = "return [...document.querySelectorAll('#heads tbody tr')].map((r) => r.innerText)"
    rows = browser.execute_script(script)
    assert len(rows) == len(findings.heads)
    for shown, row in zip(rows, findings.heads, strict=True):
        assert row.head in shown
        if row.step:
            assert units.seconds_interval(row.step).estimate in shown


def test_cells_sort_by_number_and_filter_by_word(browser: Any, address: str) -> None:
    show(browser, address, DESKTOP, "light")
    column = """
        const table = document.getElementById("all-cells");
        const heads = [...table.tHead.rows[0].cells];
        const index = heads.findIndex((head) => head.textContent.trim() === "median");
        return [...table.tBodies[0].rows].map((row) => Number(row.cells[index].dataset.value));
    """
    press = """
        const buttons = [...document.querySelectorAll("#all-cells th button")];
        buttons.find((button) => button.textContent.trim() === "median").click();
    """
    before = browser.execute_script(column)
    browser.execute_script(press)
    assert browser.execute_script(column) == sorted(before)
    browser.execute_script(press)
    assert browser.execute_script(column) == sorted(before, reverse=True)

    browser.find_element("css selector", "input[data-filters]").send_keys("dense train 1024")
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#all-cells tbody tr')]"
        ".filter((row) => !row.hidden).map((row) => row.innerText)"
    )
    assert shown
    assert all("hierarchical-dense" in row and "1024" in row for row in shown)
    assert browser.get_log("browser") == []
