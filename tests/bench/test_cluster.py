"""`--cluster`: what is asked for, and with Ray what two nodes on this machine make of it."""

import ast
import json
import signal
import sys
import time
from argparse import ArgumentTypeError
from collections import Counter
from importlib.util import find_spec

import psutil
import pytest

from bench import options
from bench.cluster import trial
from bench.cluster.nodes import Address, ClusterError, address, connected
from bench.cluster.worker import look


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("local", Address(1, "")),
        ("local:3", Address(3, "")),
        ("auto", Address(0, "auto")),
        ("node-7.example:6379", Address(0, "node-7.example:6379")),
        ("[::1]:6379", Address(0, "[::1]:6379")),
    ],
)
def test_an_address_is_local_nodes_or_ray_s_own(given, meant):
    assert address(given) == meant


@pytest.mark.parametrize("given", ["", "local:0", "local:x", "node-7", "a b:1", "ray://h:10001"])
def test_what_is_no_address_is_refused_in_a_line(given):
    with pytest.raises(ArgumentTypeError, match=r"^[^\n]+$"):
        address(given)


def asked(**given):
    return lambda name: given.get(name)


@pytest.mark.parametrize(("name", "value"), [("minutes", 3.0), ("jobs", 2)])
def test_what_one_machine_alone_can_do_does_not_go_with_a_cluster(name, value):
    with pytest.raises(pytest.UsageError, match=f"--{name} {value:g} does not go with --cluster"):
        options.plan(asked(cluster=address("auto"), **{name: value}))


def test_a_run_on_a_cluster_has_no_end_in_minutes():
    assert options.plan(asked(cluster=address("auto"))).minutes is None
    assert options.plan(asked()).minutes == options.MINUTES["default"]


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ClusterError, match=r"^[^\n]*headbench\[cluster\][^\n]*$"),
        connected(address("local:2"), "cpu"),
    ):
        pass


@pytest.mark.parametrize("path", sorted((trial.ROOT / "bench").rglob("*.py")), ids=str)
def test_ray_is_imported_by_no_module_until_it_is_asked_for(path):
    for node in ast.parse(path.read_text("utf-8")).body:
        names = [name.name for name in getattr(node, "names", [])]
        modules = {getattr(node, "module", "") or "", *names}
        assert not any(module.split(".")[0] == "ray" for module in modules)


SMALL = (
    *("--sweep", "quick", "--heads", "softmax", "--classes", "4", "--batches", "2,4"),
    *("--model-classes", "4", "--train-images", "100", "--threads", "1"),
    *("--benchmark-max-time", "0.005", "--cluster", "local:2"),
)

needs_ray = pytest.mark.skipif(
    not find_spec("ray"), reason="Ray is not installed: tox -e cluster-tests"
)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run on two nodes, a worker of which was killed while it measured."""
    folder = tmp_path_factory.mktemp("killed")
    run = trial.Run(folder, *SMALL)
    while run.goes_on:
        if (run.path / "journal.jsonl").exists() and (workers := run.workers()):
            workers[0].send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    run.end()
    return run.path


@pytest.mark.cluster
@needs_ray
def test_two_nodes_measure_all_of_it_once_although_a_worker_is_killed(killed):
    facts = json.loads((killed / "run.json").read_text())
    found = trial.measured(killed)
    lines = Counter(kind == "training" for kind, *_ in found.elements())
    assert facts["finished"]
    assert lines == {False: facts["planned"], True: 1}
    assert set(found.values()) == {1}
    assert trial.lost(killed) == 1


@pytest.mark.cluster
@needs_ray
def test_lines_and_facts_are_of_both_nodes(killed):
    machines = json.loads((killed / "run.json").read_text())["machines"]
    assert machines.keys() == {"local-1", "local-2"}
    assert {line["machine"] for line in trial.lines(killed / "journal.jsonl")} <= machines.keys()


@pytest.mark.cluster
@needs_ray
def test_nodes_end_with_who_started_them_and_are_looked_at_meanwhile():
    with connected(address("local:2"), "cpu") as nodes:
        for name in nodes.machines():
            nodes.begin(name, look, "cpu", 1, False)
        heard = {}
        while heard.keys() != nodes.machines().keys():
            heard |= {ended.machine: ended.outcome for ended in nodes.wait()}
        assert all(seen["machine"]["threads"] == 1 for seen in heard.values())
        started = psutil.Process().children(recursive=True)
        assert started
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
