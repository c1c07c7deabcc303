"""TensorBoard's profiler tab lists each head and answers with its operators."""

import json
import socket
import subprocess
import sys
import time
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from bench.measure import tracing
from reports.results import Cell

HEADS = ("softmax", "hierarchical")
PATIENCE = 120.0


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Asks a TensorBoard that shows a folder with traces of two heads."""
    logs = tmp_path_factory.mktemp("results")
    for head in HEADS:
        tracing.trace(Cell("in-model", head, "train", 100, 4, 250), logs / "run" / "traces" / head)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs)]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(page, **query):
        address = f"http://127.0.0.1:{port}/data/plugin/pytorch_profiler/{page}?{urlencode(query)}"
        with urlopen(address, timeout=PATIENCE) as answer:
            return json.load(answer)

    yield ask
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def runs(ask):
    """What the profiler tab lists once it has loaded."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            listed = ask("runs")
        except OSError:
            listed = {"loading": True, "runs": []}
        if len(listed["runs"]) == len(HEADS) and not listed["loading"]:
            return listed["runs"]
        time.sleep(0.5)
    pytest.fail(f"TensorBoard listed {listed} after {PATIENCE} s")


def test_every_head_is_a_run_of_the_profiler_tab(runs):
    assert set(runs) == {f"run/traces/{head}" for head in HEADS}


@pytest.mark.parametrize("head", HEADS)
def test_overview_and_operators_answer_with_the_heads_own(ask, runs, head):
    run = f"run/traces/{head}"
    (worker,) = ask("workers", run=run, view="Overview")
    (span,) = ask("spans", run=run, worker=worker)
    overview = ask("overview", run=run, worker=worker, span=span, view="Overview")
    assert len(overview["steps"]["rows"]) == tracing.STEPS["active"]
    table = ask("operation/table", run=run, worker=worker, span=span, group_by="Operation")
    operators = {row["name"] for row in table["data"]}
    assert "aten::convolution_backward" in operators
    # Only the full softmax normalises over all classes at once.
    assert ("aten::_log_softmax" in operators) == (head == "softmax")
