"""The program in docs/scaling.md runs as it stands there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.warm import Warm

ROOT = Path(__file__).parents[2]


def test_the_program_for_torchrun_runs_on_two_ranks(tmp_path: Path, warm: Warm) -> None:
    """Torchrun forks its ranks, each of which would import torch for itself otherwise."""
    guide = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    [program] = re.findall(r"```python\n(import torch\n.*?)```", guide, re.DOTALL)
    script = tmp_path / "train.py"
    script.write_text(program, "utf-8")
    process = warm.start(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--start-method", "fork", "--run-path", str(script)),
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    # What each rank holds, and who holds what.
    assert len(list((tmp_path / "checkpoint").iterdir())) == 3
