"""The program in docs/scaling.md runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 600


def test_the_program_for_torchrun_runs_on_two_ranks(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "scaling.md").read_text("utf-8")
    [program] = re.findall(r"```python\n(import torch\n.*?)```", guide, re.DOTALL)
    (tmp_path / "train.py").write_text(program, "utf-8")
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py")
    done = subprocess.run(
        [sys.executable, *launch],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    # What each rank holds, and who holds what.
    assert len(list((tmp_path / "checkpoint").iterdir())) == 3
