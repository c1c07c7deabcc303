"""A compiled kernel is launched again only with what Triton would have compiled the same for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

jit: Any = pytest.importorskip("triton.runtime.jit", reason="needs Triton")
launches = pytest.importorskip("heads.launch_triton", reason="needs Triton that compiles")

integers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-40, 40),
    st.sampled_from([sign * 2**31 + step for sign in (-1, 1) for step in range(-17, 18)]),
)
tensors = st.builds(
    lambda dtype, start: torch.empty(32, dtype=dtype)[start:],
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int64]),
    st.integers(0, 16),
)
values = st.one_of(integers, st.booleans(), st.floats(), tensors)


def tritons(value: object) -> object:
    """What Triton itself says that a kernel is specialised for."""
    backend = import_module("triton.compiler.compiler").make_backend(
        import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    )
    return jit.native_specialize_impl(backend, value, False, True, True)


@given(st.lists(values, min_size=2, max_size=40))
def test_of_one_kind_are_only_those_that_triton_calls_of_one_kind(given: list[Any]) -> None:
    kinds: dict[tuple[object, ...], object] = {}
    for value in given:
        kind = tuple(launches.specialization((value,)))
        assert kinds.setdefault(kind, tritons(value)) == tritons(value)


def test_kinds_of_several_do_not_run_together() -> None:
    a, b = torch.empty(16), torch.empty(17)[1:]
    assert launches.specialization((a, b)) != launches.specialization((b, a))
    assert launches.specialization((1, 2.0)) != launches.specialization((2.0, 1))


@pytest.mark.cuda
def test_what_is_launched_again_takes_its_own_arguments() -> None:
    """Above all those whose place in memory or divisibility asks for another kernel."""
    kernels = import_module("heads.heap_triton")
    for size in (16, 16, 17, 32, 33, 16):
        for start in (0, 1, 4, 0):
            leaf = torch.randint(100, (size + start,), device="cuda")[start:]
            ranked = torch.empty(2, size, dtype=torch.int64, device="cuda")
            for _ in range(2):
                launches.launch(
                    kernels._rank, (-(-size // 16),), leaf, ranked, size, 128, 7, SAMPLES=16,
                    OTHERS=128,
                )  # fmt: skip
                expected, order = (leaf + 128).sort(stable=True)
                assert torch.equal(ranked, torch.stack((expected, order)))
