"""The facts name the machine and the software, as plain strings and numbers."""

import torch

from bench.machine import identity


def test_facts_are_flat_and_name_what_figures_depend_on():
    facts = identity.facts("cpu")
    assert all(isinstance(value, str | int | float | bool) for value in facts.values())
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert facts["memory_bytes"] > 2**20
    assert facts["cpu"]


def test_flags_are_those_of_the_build():
    shown = "CXX_FLAGS= -O2, BLAS_INFO=mkl, BUILD_TYPE=Release, USE_CUDA=0, USE_OPENMP=ON, \n"
    assert identity._flags(shown) == "BLAS_INFO=mkl USE_CUDA=0 USE_OPENMP=ON"
