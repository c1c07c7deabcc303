"""Facts about the machine and the software that a run's figures depend on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cpuinfo
import psutil
import torch

Description = dict[str, str | int | float | bool]

KERNELS = ("numba", "triton")
"""Packages with which heads have kernels, and other algorithms without."""

ABSENT = "none"
"""Version of a package that is not there."""

TIMING = "laps"
"""How phases of a training step are timed: as laps of it. Runs of older versions, which timed each
in a loop of its own, lack this fact."""


def describe(device: str) -> Description:
    """What a reader needs to know before comparing this run with another."""
    return _processor() | _software() | _revision() | (_gpu() if device.startswith("cuda") else {})


def _processor() -> Description:
    cpu = cpuinfo.get_cpu_info()
    found: Description = {
        "host": platform.node(),
        "cpu": cpu.get("brand_raw", platform.processor() or "unknown"),
        "cores": psutil.cpu_count(logical=False) or 0,
        "logical_cores": psutil.cpu_count() or 0,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_before": round(psutil.getloadavg()[0], 2),
    }
    for level in ("l1_data", "l2", "l3"):
        size = cpu.get(f"{level}_cache_size")
        if isinstance(size, int):
            found[f"{level}_cache_bytes"] = size
    found |= _caches(Path("/sys/devices/system/cpu/cpu0/cache"))
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        found["governor"] = governor.read_text().strip()
    return found


def _caches(folder: Path) -> Description:
    """Bytes of the caches that one core sees, as Linux knows them; elsewhere nothing.

    cpuinfo asks the processor, which on a virtual machine may not tell the whole truth.
    """
    found: Description = {}
    for cache in sorted(folder.glob("index*")):
        try:
            level, kind, size = (
                (cache / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K") and size[:-1].isdecimal():
            found[f"l{level}{'_data' if level == '1' else ''}_cache_bytes"] = 1024 * int(size[:-1])
    return found


def _software() -> Description:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_revision": torch.version.git_version or "",
        "torch_flags": _flags(torch.__config__.show()),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        **{
            name: version(name)
            for name in ("torchvision", "pytest-benchmark", "numpy", "scikit-learn")
        },
        **{name: _version(name) for name in KERNELS},
        "timing": TIMING,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT


def _flags(configuration: str) -> str:
    """What torch was built with: its BLAS, OpenMP, oneDNN, CUDA and the like."""
    return " ".join(re.findall(r"\b(?:BLAS_INFO|USE_[A-Z]+)=\w+", configuration))


def _revision() -> Description:
    """Commit of this checkout, and whether it had uncommitted changes; nothing outside of git."""
    git = shutil.which("git")
    here = Path(__file__).parent
    if git is None:
        return {}

    def ask(*arguments: str) -> str:
        return subprocess.run(
            [str(git), "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "revision": ask("rev-parse", "--short=12", "HEAD"),
            "uncommitted_changes": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except subprocess.CalledProcessError:
        return {}


def _gpu() -> Description:
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "gpu_l2_cache_bytes": properties.L2_cache_size,
        "gpu_multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda or "",
        "driver": nvidia_smi("driver_version"),
        "gpu_clock_mhz": nvidia_smi("clocks.current.sm"),
        "gpu_clock_max_mhz": nvidia_smi("clocks.max.sm"),
    }


def nvidia_smi(query: str) -> str:
    """What the driver says of the current GPU: values separated by ", ", or "unknown"."""
    # Its number counts all GPUs of the machine, torch's only those that the process may see.
    uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
    try:
        answer = subprocess.run(
            [
                "nvidia-smi",
                f"--query-gpu={query}",
                "--format=csv,noheader,nounits",
                f"--id=GPU-{uuid}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
