"""What a cell's dtype makes of weights, features and products; every head can be measured so."""

import pytest
import torch

import heads
from bench.measure import workload
from bench.measure.precision import PRECISIONS, why_not
from bench.measure.workload import Workload
from reports.results import Cell

CPU = torch.device("cpu")
ON_A_CPU = [name for name in PRECISIONS if not PRECISIONS[name].tf32]


def cell(head, dtype, phase="train", scope="isolated"):
    return Cell(scope, head, phase, classes=50, batch=4, features=16, dtype=dtype)


@pytest.mark.parametrize("dtype", ON_A_CPU)
@pytest.mark.parametrize("head", heads.names())
def test_every_head_trains_and_predicts(head, dtype):
    subject = Workload(cell(head, dtype))
    for phase in ("train", "predict"):
        subject.prepare(phase).once()
    wanted = PRECISIONS[dtype]
    assert {parameter.dtype for parameter in subject.parameters} == {wanted.parameters}
    assert (subject.input.dtype, subject.input.grad) == (wanted.features, None)


@pytest.mark.parametrize("dtype", ["bfloat16", "autocast-bfloat16"])
def test_the_whole_model_trains_in_half_precision(dtype):
    Workload(cell("softmax", dtype, scope="in-model")).prepare("train").once()


def test_products_are_made_in_autocasts_dtype_and_in_no_other_elsewhere():
    linear, features = torch.nn.Linear(4, 3), torch.randn(2, 4)
    for name, made in (("autocast-bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with PRECISIONS[name].products(CPU):
            assert linear(features).dtype == made
    assert linear(features).dtype == torch.float32


@pytest.mark.parametrize("before", [True, False])
def test_a_cell_sets_tf32_for_itself_whatever_the_one_before_did(before, monkeypatch):
    matmul = torch.backends.cuda.matmul
    earlier = matmul.allow_tf32
    try:
        for dtype in ("float32", "tf32"):
            matmul.allow_tf32 = before
            Workload(cell("softmax", dtype)).prepare("forward")
            assert matmul.allow_tf32 == (dtype == "tf32")
    finally:
        matmul.allow_tf32 = earlier


def test_what_cannot_be_measured_is_said_in_a_line():
    assert "CUDA's" in why_not("tf32", "cpu")
    assert why_not("tf32", "cuda:0") == ""
    assert "no dtype called 'int8'; there are: float32" in why_not("int8", "cpu")
    assert "CUDA's" in workload.why_not(cell("softmax", "tf32"))
