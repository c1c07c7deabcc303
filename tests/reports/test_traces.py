"""Self CPU time per operator: what an operator takes without those it calls."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from reports.results import traces
from reports.results.traces import merge, operators, self_times
from tests.reports.synthetic import trace


def op(name: str, ts: float, dur: float, tid: int = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur}


def test_nested_operators_are_taken_off_their_parent_only() -> None:
    found = {
        o.name: o.self_seconds
        for o in self_times([op("a", 0, 100), op("b", 10, 50), op("c", 20, 10), op("c", 70, 5)])
    }
    assert found == pytest.approx({"a": 45e-6, "b": 40e-6, "c": 15e-6})


def test_self_times_of_a_thread_sum_to_its_busy_time() -> None:
    events = [op("a", 0, 100), op("b", 0, 100), op("c", 100, 30), op("d", 110, 20)]
    assert sum(o.self_seconds for o in self_times(events)) == pytest.approx(130e-6)


def test_threads_do_not_nest_in_each_other() -> None:
    found = {o.name: o.self_seconds for o in self_times([op("a", 0, 100), op("b", 10, 50, tid=2)])}
    assert found == pytest.approx({"a": 100e-6, "b": 50e-6})


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_trace_file_is_read_plain_and_compressed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.pt.trace.json{suffix}"
    content = json.dumps(trace("softmax")).encode()
    path.write_bytes(gzip.compress(content) if suffix else content)
    found = operators(path)
    assert [o.name for o in found] == ["aten::linear", "aten::softmax", "aten::addmm"]
    assert found[0].self_seconds == pytest.approx(70e-6)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"traceEvents": 3}', b"\xff" * 9, b"[" * 99_999]
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_is_no_trace_is_said_in_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"x.json{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".") as found:
        operators(path)
    assert "\n" not in str(found.value)


def test_compressed_trace_is_not_unpacked_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "LARGEST_BYTES", 1000)
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b" " * 10_000))
    with pytest.raises(ValueError, match="Perfetto"):
        operators(path)


def test_merge_sums_calls_and_seconds() -> None:
    one = self_times([op("a", 0, 100)])
    assert [(o.name, o.calls, o.self_seconds) for o in merge([one, one])] == [
        ("a", 2, pytest.approx(200e-6))
    ]
