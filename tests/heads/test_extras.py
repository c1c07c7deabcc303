"""Without an optional extra, or with a broken one, every head is there and works."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import heads
from tests.warm import Warm

ROOT = Path(heads.__file__).parents[1]

BROKEN = {
    "absent": "raise ModuleNotFoundError(\"No module named 'numba'\")",
    "import-error": "raise ImportError('numba needs NumPy 2.3 or less')",
    "any-error": "raise RuntimeError('first line\\nsecond line')",
    "system-exit": "raise SystemExit('no licence')",
    "attribute": "",
    "decorator": """
class config: NUMBA_NUM_THREADS = 1
def njit(*args, **options): raise RuntimeError('cannot cache function')
""",
    "first-call": """
class config: NUMBA_NUM_THREADS = 1
def njit(function=None, **options):
    def fail(*args): raise OSError('LLVM is not what it was')
    return fail if function else lambda function: fail
""",
}

SAY = """
import torch, heads
from heads.paths import back_end
print(*heads.names())
head = heads.build("hierarchical-fused", 8, 1000, learning_rate=0.5)
features, target = torch.randn(4, 8), torch.arange(4)
before = head(features, target).loss
before.backward()
print(bool(head(features, target).loss < before))
print(back_end(head.nodes.weight).__name__)
"""


KERNEL = """
class Kernel:
    def __getitem__(self, grid): return self.launch
    def launch(self, *args, **options): {launch}
def jit(function=None, **options): return Kernel() if function else jit
"""

BROKEN_TRITON = {
    "absent": "raise ModuleNotFoundError(\"No module named 'triton'\")",
    "import-error": "raise ImportError('libcuda.so.1: cannot open shared object file')",
    "any-error": "raise RuntimeError('first line\\nsecond line')",
    "system-exit": "raise SystemExit('no licence')",
    "attribute": "",
    "decorator": "def jit(function): raise OSError('could not get source code')",
    "first-call": KERNEL.format(launch="raise RuntimeError('no C compiler')"),
}

STEP = """
import sys, torch
assert "triton" not in sys.modules
sys.modules["numba"] = None  # whose kernels take long to load, and are not in question
import heads
features, targets = torch.randn(4, 8), torch.arange(4)
for name in heads.names():
    given = {"learning_rate": 0.5} if name == "hierarchical-fused" else {}
    head = heads.build(name, 8, 1000, **given)
    head(features, targets).loss.backward()
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-0.5)
    assert head.predict(features).shape == (4,), name
    assert head(features, targets).loss.isfinite(), name
print("trained")
"""

PROBE = """
import torch
from heads.extras import optional
empty = torch.empty
torch.cuda.is_available = lambda: True
torch.empty = lambda *size, device=None: empty(*size)
kernels = ("paths_triton", "search_triton", "softmax_triton", "softmax_fused_triton")
print(*(optional(f"heads.{name}") is not None for name in kernels))
"""
"""Takes this for a machine with CUDA, as far as the import of kernels looks."""

Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """The lines that code prints in a process that has imported torch alone."""
    python = Warm("torch")

    def run(code: str, first: Path | None = None) -> list[str]:
        paths = os.pathsep.join(map(str, filter(None, (first, ROOT))))
        process = python.start("-c", code, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths})
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        return output.splitlines()

    yield run
    python.close()


@pytest.mark.parametrize("module", BROKEN.values(), ids=BROKEN)
def test_torchs_own_operators_take_its_place(module: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "numba.py").write_text(module, "utf-8")
    names, learned, chosen = run(SAY, first=tmp_path)
    assert names.split() == list(heads.names())
    assert (learned, chosen) == ("True", "heads.paths_torch")


def write_triton(folder: Path, module: str) -> Path:
    package = folder / "triton"
    package.mkdir()
    (package / "__init__.py").write_text(module, "utf-8")
    (package / "language.py").write_text("constexpr = int", "utf-8")
    return folder


@pytest.mark.parametrize("module", BROKEN_TRITON.values(), ids=BROKEN_TRITON)
def test_every_head_learns_on_the_cpu_beside_a_broken_triton(
    module: str, tmp_path: Path, run: Run
) -> None:
    """The step is made by hand: `torch.optim` itself forgives a Triton only an ImportError."""
    assert run(STEP, first=write_triton(tmp_path, module)) == ["trained"]


@pytest.mark.parametrize("module", BROKEN_TRITON.values(), ids=BROKEN_TRITON)
def test_a_broken_triton_has_no_kernels(module: str, tmp_path: Path, run: Run) -> None:
    assert run(PROBE, first=write_triton(tmp_path, module)) == ["False False False False"]


def test_a_triton_that_compiles_has_kernels(tmp_path: Path, run: Run) -> None:
    works = KERNEL.format(launch="pass")
    assert run(PROBE, first=write_triton(tmp_path, works)) == ["True True True True"]


@pytest.mark.skipif(find_spec("numba") is None, reason="needs numba")
def test_where_nothing_can_be_kept_it_compiles_without_keeping(run: Run) -> None:
    """As in a read-only installation for a user without a home that can be written to."""
    code = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import heads
from heads import loops, paths_numba
print(loops.KEPT)
print(paths_numba._dot(*[__import__("numpy").ones((1, 3), "float32"), 0] * 2))
"""
    assert run(code) == ["False", "3.0"]
