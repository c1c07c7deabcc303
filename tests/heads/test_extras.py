"""An optional extra that is absent, broken or unable to compile takes its own head away alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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
import heads
print(*heads.names())
heads.build("hierarchical", 8, 10)
try:
    heads.build("hierarchical-fused", 8, 10)
except ValueError as error:
    print(error)
"""


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
def test_the_other_heads_do_without_it_and_building_it_says_why(
    module: str, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "numba.py").write_text(module, "utf-8")
    names, why = run(SAY, first=tmp_path)
    assert names.split() == [name for name in heads.names() if name != "hierarchical-fused"]
    assert "'hierarchical-fused' needs the optional extra 'fast' (numba)" in why
    for said in ("No module named", "NumPy 2.3", "second line", "no licence", "cannot cache"):
        assert (said in why) == (said in module.replace("\\n", " "))


@pytest.mark.skipif("hierarchical-fused" not in heads.names(), reason="needs numba")
def test_where_nothing_can_be_kept_it_compiles_without_keeping(run: Run) -> None:
    """As in a read-only installation for a user without a home that can be written to."""
    code = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import heads
from heads import fused
print(fused._KEPT)
print(fused._dot(*[__import__("numpy").ones(3, "float32")] * 2))
print("hierarchical-fused" in heads.names())
"""
    assert run(code) == ["False", "3.0", "True"]
