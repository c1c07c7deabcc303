"""A run on a GPU is read from the clock that was asked for, and says which clock binds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reports import units
from reports.clocks import main
from reports.findings.clocks import by, clocks, noise, sentences, two_clocks
from reports.findings.findings import find
from reports.page import html
from reports.results import load
from reports.stats.estimates import Scatter
from tests.reports.synthetic import cell, timed, write_run

SIZES = (64, 256, 1_024, 4_096, 16_384, 65_536)
HOST = 400e-6
"""Seconds that issuing any call takes."""

DEVICE = {"softmax": lambda n: 20e-6 + 50e-9 * n, "hierarchical": lambda n: 90e-6}
"""Seconds that its kernels take: softmax's exceed the host's from 16,384 classes on."""


def lines() -> list[dict[str, Any]]:
    found = []
    for head, device in DEVICE.items():
        for n in SIZES:
            for index in range(2):
                where = cell(head, "train", n, 128, device="cuda:0")
                loop = max(HOST, device(n))
                found.append(timed(where, index, [loop * wobble for wobble in (0.99, 1, 1.02)]))
                found.append(
                    {
                        "kind": "device",
                        "status": "measured",
                        "cell": where,
                        "pass": index,
                        "written": "2026-01-01T00:00:00.000+00:00",
                        "device_seconds": [device(n) * wobble for wobble in (0.999, 1, 1.001)],
                        "host_seconds": [HOST, 1.1 * HOST],
                        "kernel_seconds": 0.9 * device(n),
                        "launches": 24,
                        "captured": head == "softmax",
                        "why_not": "" if head == "softmax" else "it waits <for> the device",
                    }
                )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("clocks") / "run", lines=lines(), trainings=[])


@pytest.fixture(scope="module")
def pages(folder: Path) -> dict[str, str]:
    """The page read from each clock."""
    return {c: html.render(find(load(folder), c)) for c in ("device", "host", "loop")}


@pytest.mark.parametrize(
    ("clock", "seconds"), [("device", 20e-6 + 50e-9 * 64), ("host", 1.05 * HOST), ("loop", HOST)]
)
def test_times_are_read_from_the_clock_asked_for(folder, clock, seconds):
    findings = find(load(folder), clock)
    first = findings.alone_at("train", 128, 64)[0]
    assert (findings.clock, first.head) == (clock, "softmax")
    assert first.seconds.estimate == pytest.approx(seconds, rel=1e-6)
    assert first.multiply_adds == 3 * 128 * 128 * 64  # counted work stays with its cell
    assert len(first.samples) == 2


def test_a_gpu_s_run_is_read_from_the_device_s_clock_unless_asked(folder, synthetic):
    assert find(load(folder)).clock == "device"
    assert find(load(synthetic)).clock == "loop"
    assert clocks(load(synthetic)) == ("loop",)


def test_a_clock_that_a_run_lacks_is_refused_in_a_line(synthetic):
    with pytest.raises(ValueError, match=r"has no device time, only loop time$"):
        by(load(synthetic), "device")


def test_which_clock_binds_and_from_which_size_on(folder):
    run = load(folder)
    found = two_clocks(run, find(run).alone, Scatter())
    binds = {(one.head, one.classes): one.binds for one in found}
    for n in SIZES:
        assert binds["softmax", n] == ("device" if DEVICE["softmax"](n) > 1.05 * HOST else "host")
        assert binds["hierarchical", n] == "host"
    said = " ".join(sentences(found, "train", 128))
    assert "softmax: the device binds from 16,384 classes on (24 launches" in said
    assert "hierarchical: the host binds at all sizes up to 65,536 classes" in said
    assert all(one.loop.estimate == pytest.approx(HOST) for one in found if one.classes == 64)


def test_the_page_shows_both_clocks_and_what_was_not_captured(pages, page):
    shown = pages["device"]
    section = shown[shown.index('id="clocks"') :]
    section = section[: section.index("</section>")]
    assert "read from device time" in section
    assert re.search(r"hierarchical train: it waits &lt;for&gt; the device", section)
    assert "65,536" in section
    assert "On the CPU there is one clock" in page


def test_the_page_s_loop_is_the_loop_whatever_clock_the_page_is_read_from(pages):
    for page in pages.values():
        section = page[page.index('id="clocks"') :]
        row = re.search(r">64</th>(<td>[^<]*</td>){3}", section)
        assert "400" in row[1], row[0]


def test_answers_and_verdicts_name_their_clock(pages, page):
    for clock in ("device", "loop"):
        assert f"eager calls, {clock} time" in pages[clock]
    assert "eager calls, loop time" not in page


def test_the_noise_of_each_clock_is_said(tmp_path):
    apart = {"device_seconds": 1.01, "host_seconds": 1.1, "seconds": 1.3}
    twins = [
        {
            key: [second * apart[key] for second in value] if key in apart else value
            for key, value in line.items()
        }
        | {"cell": line["cell"] | {"replica": 1}}
        for line in lines()
        if line["cell"]["head"] == "softmax"
    ]
    findings = find(load(write_run(tmp_path / "run", lines=[*lines(), *twins], trainings=[])))
    floors = findings.floor_by_clock
    assert {clock: floor.difference.estimate for clock, floor in floors.items()} == {
        "device": pytest.approx(0.01, rel=1e-3),
        "host": pytest.approx(0.1, rel=1e-3),
        "loop": pytest.approx(0.3, rel=1e-3),
    }
    assert floors["host"].comparisons == len(SIZES)
    said = noise(floors)
    for clock, floor in floors.items():
        assert f"{clock} time {units.share(floor.difference.estimate)}" in said
    assert said in html.render(findings)


def test_both_clocks_are_a_table_for_a_note(folder, synthetic, capsys):
    assert main([str(folder), "--classes", "64,65536"]) == 0
    out = capsys.readouterr().out
    assert "float32, eager calls, train, batch 128:" in out
    assert re.search(r"\| softmax \| 64 \| 23.2 µs \| 420 µs \| 400 µs \| 24 \| host \|", out)
    assert re.search(r"\| hierarchical \| 65,536 \| 90(.0)? µs \(kernels\) \|", out)
    assert "1,024" not in out
    assert main([str(synthetic)]) == 2
    assert "two clocks: they are a GPU's" in capsys.readouterr().err


def test_growth_of_the_device_s_time_is_not_hidden_by_the_host(folder):
    growth = {g.head: g.time.model for g in find(load(folder)).growths if g.phase == "train"}
    assert growth["softmax"] == "O(n)"
    assert growth["hierarchical"] in ("O(1)", "O(log n)")
