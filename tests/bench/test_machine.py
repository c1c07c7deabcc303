"""The facts name the machine and the software, as plain strings and numbers."""

from importlib.metadata import PackageNotFoundError, version

import torch

from bench.machine import identity


def test_facts_are_flat_and_name_what_figures_depend_on():
    machine = identity.describe("cpu")
    assert all(isinstance(value, str | int | float | bool) for value in machine.values())
    assert machine["torch"] == torch.__version__
    assert machine["threads"] == torch.get_num_threads()
    assert machine["memory_bytes"] > 2**20
    assert machine["cpu"]


def test_what_heads_have_kernels_of_is_named_present_or_absent(monkeypatch):
    def without_triton(package):
        if package == "triton":
            raise PackageNotFoundError(package)
        return "0.0" if package == "numba" else version(package)

    monkeypatch.setattr(identity, "version", without_triton)
    software = identity._software()
    assert (software["numba"], software["triton"]) == ("0.0", "none")


def test_flags_are_those_of_the_build():
    shown = "CXX_FLAGS= -O2, BLAS_INFO=mkl, BUILD_TYPE=Release, USE_CUDA=0, USE_OPENMP=ON, \n"
    assert identity._flags(shown) == "BLAS_INFO=mkl USE_CUDA=0 USE_OPENMP=ON"
