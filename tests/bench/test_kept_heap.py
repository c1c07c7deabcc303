"""A kept heap gives no page back, here and in processes started later; elsewhere it is refused."""

import json
import os
import sys
from pathlib import Path

import pytest

from bench.machine import heap

ROOT = Path(__file__).parents[2]

GLIBC = pytest.mark.skipif(
    sys.platform != "linux" or heap.platform.libc_ver()[0] != "glibc",
    reason="malloc's settings are glibc's",
)

PAGES = 2**26 // 4096

COUNT = """
import resource
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(30)])
"""

HERE = """
import sys, torch
from bench.machine import heap
heap.choose(sys.argv[1])
block = lambda: torch.ones(2**24)
exec(sys.argv[2])
"""

IN_A_CHILD = """
import subprocess, sys
from bench.machine import heap
heap.choose(sys.argv[1])
block = "block = lambda: b'1' * 2**26"  # which takes no torch
subprocess.run([sys.executable, "-c", block + sys.argv[2]], check=True)
"""


@GLIBC
@pytest.mark.parametrize("source", [HERE, IN_A_CHILD], ids=["here", "in a child"])
@pytest.mark.parametrize("asked", heap.HEAPS)
def test_a_block_of_64_mib_is_faulted_in_again_unless_the_heap_is_kept(asked, source, warm):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = warm.start("-c", source, asked, COUNT, cwd=ROOT, env=environment)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    settled = json.loads(output)[-10:]
    assert (max(settled) < PAGES / 4) if asked == "kept" else (min(settled) >= PAGES / 2)


@pytest.mark.parametrize(
    ("system", "libc"), [("darwin", ("", "")), ("linux", ("", "")), ("win32", ("", ""))]
)
def test_elsewhere_it_is_refused_in_a_line(system, libc, monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", system)
    monkeypatch.setattr(heap.platform, "libc_ver", lambda: libc)
    with pytest.raises(heap.HeapError, match="leave the option out") as refused:
        heap.choose("kept")
    assert "\n" not in str(refused.value)
    heap.choose("default")


@GLIBC
def test_an_allocator_that_gives_memory_back_all_the_same_is_found_out(monkeypatch):
    monkeypatch.setattr(heap, "_keeps", lambda libc: False)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: type("", (), {"mallopt": print})())
    with pytest.raises(heap.HeapError, match="preloaded"):
        heap.choose("kept")
