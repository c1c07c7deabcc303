"""A synthetic results folder: small, complete, and drawn from curves that the tests know."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

PHASES = {"forward": 0.35, "backward": 0.5, "step": 0.15, "train": 1.0, "predict": 0.3}
HEADS = ("softmax", "gumbel", "hierarchical", "hierarchical-dense", "adaptive")
TRAINED = ("softmax", "gumbel-normal", "hierarchical")
CLASSES = (16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144)
FEW_CLASSES = (256, 4_096, 65_536, 262_144)
BATCHES = (32, 128)
FEATURES = 128

# Microseconds of a training step of `batch` samples over n classes.
CURVES: dict[str, Callable[[int, int], float]] = {
    "softmax": lambda n, batch: 60 + 0.012 * batch / 128 * n,
    "gumbel": lambda n, batch: 90 + 0.018 * batch / 128 * n,
    "gumbel-normal": lambda n, batch: 85 + 0.017 * batch / 128 * n,
    "hierarchical": lambda n, batch: 40 + 30 * batch / 128 * math.log2(n),
    "hierarchical-dense": lambda n, batch: 60 + 14 * batch / 128 * math.log2(n) + 0.01 * n,
    "adaptive": lambda n, batch: 160 + 0.004 * batch / 128 * n,
}


def work(head: str, n: int, batch: int) -> int:
    """Multiply-adds of a training step."""
    if head.startswith("hierarchical"):
        return 3 * batch * FEATURES * math.ceil(math.log2(n))
    return 3 * batch * FEATURES * n


def cell(head: str, phase: str, n: int, batch: int, **others: Any) -> dict[str, Any]:
    return {
        "scope": "isolated",
        "head": head,
        "phase": phase,
        "classes": n,
        "batch": batch,
        "features": FEATURES,
        "dtype": "float32",
        "device": "cpu",
        "threads": 2,
        "replica": 0,
    } | others


def timed(where: dict[str, Any], pass_index: int, seconds: Iterable[float]) -> dict[str, Any]:
    counted = where["scope"] == "isolated"
    amount = work(where["head"], where["classes"], where["batch"])
    return {
        "kind": "time",
        "status": "measured",
        "cell": where,
        "pass": pass_index,
        "written": "2026-01-01T00:00:00.000+00:00",
        "seconds": list(seconds),
        "iterations": 1,
        "warmup_seconds": [1e-3],
        "multiply_adds": amount if counted else None,
        "bytes": 4 * amount if counted else None,
    }


def remembered(where: dict[str, Any], pass_index: int = 0) -> dict[str, Any]:
    n, batch, features = where["classes"], where["batch"], where["features"]
    path = math.ceil(math.log2(n))
    sparse = where["head"] == "hierarchical"
    return {
        "kind": "memory",
        "status": "measured",
        "cell": where,
        "pass": pass_index,
        "written": "2026-01-01T00:00:00.000+00:00",
        "peak_bytes": 4 * batch * (features * path if sparse else n + features),
        "parameter_bytes": 4 * n * features,
        "gradient_bytes": 4 * features * (batch * path if sparse else n),
        "optimizer_bytes": 0,
    }


@dataclass(frozen=True)
class Cluster:
    """What ranks do, in seconds and bytes per second: the truth that a report has to find.

    Attributes:
        overhead: of a call, whatever it computes.
        class_seconds: of each class of a rank, for a sample.
        tree: whether latency grows with the bits of the number of ranks.
        gathers: collectives that bring two numbers of each sample together.
        sums: collectives that add up the input's gradient, in a training step.
    """

    overhead: float = 2e-4
    class_seconds: float = 1e-9
    latency: float = 0.0
    bandwidth: float = math.inf
    waiting: float = 0.0
    tree: bool = False
    gathers: int = 1
    sums: int = 1

    def sent(self, phase: str, batch: int, ranks: int) -> dict[str, float]:
        """Bytes that a rank sends in a call, by collective."""
        gathered = self.gathers * (ranks - 1) * 8.0 * batch
        summed = self.sums * 2 * (ranks - 1) / ranks * 4.0 * batch * FEATURES
        return {
            "all_gather": gathered,
            "all_reduce": summed if phase == "train" else 0.0,
            "reduce_scatter": 0.0,
            "broadcast": 0.0,
        }

    def collectives(self, phase: str) -> int:
        """Of a call on several ranks."""
        return self.gathers + (self.sums if phase == "train" else 0)

    def local(self, phase: str, n: int, batch: int, ranks: int) -> float:
        """Seconds that a rank computes."""
        part = self.overhead + self.class_seconds * batch * n / ranks
        return part if phase == "train" else part / 3

    def told(self, phase: str, n: int, batch: int, ranks: int) -> float:
        """Seconds of a call's collectives, waiting included."""
        if ranks == 1:
            return 0.0
        rounds = math.log2(ranks) if self.tree else 1
        return (
            self.collectives(phase) * self.latency * rounds
            + sum(self.sent(phase, batch, ranks).values()) / self.bandwidth
            + self.waiting * self.local(phase, n, batch, ranks)
        )

    def seconds(self, phase: str, n: int, batch: int, ranks: int) -> float:
        """Seconds of a call."""
        return self.local(phase, n, batch, ranks) + self.told(phase, n, batch, ranks)


def ranked(
    cluster: Cluster,
    ranks: Iterable[int] = (1, 2),
    classes: Iterable[int] = CLASSES,
    batches: Iterable[int] = BATCHES,
    head: str = "softmax",
    noise: float = 0.01,
    passes: int = 3,
    **others: Any,
) -> list[dict[str, Any]]:
    """Times, memory and communication of a head on several numbers of ranks."""
    draw = np.random.default_rng(0)
    lines = []
    for index, phase, n, batch, count in product(
        range(passes), ("train", "predict"), classes, batches, ranks
    ):
        where = cell(head, phase, n, batch, ranks=count, **others)
        typical = cluster.seconds(phase, n, batch, count)
        drift = 1 + noise * draw.standard_normal()
        rounds = typical * drift * (1 + noise * draw.standard_normal(6))
        line = timed(where, index, rounds)
        lines.append(line | {"multiply_adds": line["multiply_adds"] // count})
        if index == 0:
            memory = remembered(where)
            lines.append(memory | {"parameter_bytes": memory["parameter_bytes"] // count})
        if count > 1:
            lines.append(communicated(cluster, where, index, rounds))
    return lines


def communicated(
    cluster: Cluster, where: dict[str, Any], pass_index: int, calls: Iterable[float]
) -> dict[str, Any]:
    """What is told in calls that take so long: 1 % noise of a pass, and of a call."""
    phase, n, batch, count = (where[name] for name in ("phase", "classes", "batch", "ranks"))
    share = cluster.told(phase, n, batch, count) / cluster.seconds(phase, n, batch, count)
    draw = np.random.default_rng((n, batch, count, pass_index))
    share *= 1 + 0.01 * draw.standard_normal()
    sent = cluster.sent(phase, batch, count)
    seen = {"collectives": cluster.collectives(phase), "bytes": int(sum(sent.values()))}
    return {
        "kind": "communication",
        "status": "measured",
        "cell": where,
        "pass": pass_index,
        "written": "2026-01-01T00:00:00.000+00:00",
        "call_seconds": list(calls),
        "told_seconds": [share * (1 + 0.01 * draw.standard_normal()) * one for one in calls],
        **seen,
        **{f"counted_{name}": number for name, number in seen.items()},
        "sent": sent,
    }


def split(
    where: dict[str, Any], pass_index: int, head_share: float, steps: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Training steps taken apart: 10 ms of body, of which the data take a tenth, 2 % noise."""
    draw = np.random.default_rng((seed, pass_index))
    body = {"data": 1e-3, "forward": 3e-3, "backward": 5e-3, "optimizer": 1e-3}
    typical = body | {"head": sum(body.values()) * head_share / (1 - head_share)}
    return {
        "kind": "split",
        "status": "measured",
        "cell": where,
        "pass": pass_index,
        "written": "2026-01-01T00:00:00.000+00:00",
        "parts": {
            part: (seconds * (1 + 0.02 * draw.standard_normal(steps))).tolist()
            for part, seconds in typical.items()
        },
        "flops_per_image": 7_200_000,
    }


def missing(where: dict[str, Any], status: str, reason: str) -> dict[str, Any]:
    return {
        "kind": "time",
        "status": status,
        "cell": where,
        "pass": 0,
        "written": "2026-01-01T00:00:00.000+00:00",
        "reason": reason,
    }


def journal(
    heads: Iterable[str] = HEADS, passes: int = 3, rounds: int = 6, seed: int = 0
) -> list[dict[str, Any]]:
    """Every cell in every pass: 2 % noise per round, 1 % drift per pass."""
    draw = np.random.default_rng(seed)
    lines = []
    for index in range(passes):
        drift = 1 + 0.01 * draw.standard_normal()
        for head in heads:
            for phase, part in PHASES.items():
                for n in CLASSES:
                    for batch in BATCHES:
                        for replica in (0, 1) if head == "softmax" else (0,):
                            where = cell(head, phase, n, batch, replica=replica)
                            typical = 1e-6 * part * drift * CURVES[head](n, batch)
                            noise = 1 + 0.02 * draw.standard_normal(rounds)
                            lines.append(timed(where, index, typical * noise))
                            if index == 0 and replica == 0:
                                lines.append(remembered(where))
            for batch in BATCHES:
                where = cell(head, "train", 256, batch, scope="in-model", features=640)
                typical = 9e-3 * batch / 32 + 1e-6 * drift * CURVES[head](256, batch)
                noise = 1 + 0.02 * draw.standard_normal(rounds)
                lines.append(timed(where, index, typical * noise))
    return lines


def wider(
    widths: Iterable[int], heads: Iterable[str] = HEADS, passes: int = 3, rounds: int = 6
) -> list[dict[str, Any]]:
    """Few sizes at other widths, at which half of a step is in proportion to the width."""
    draw = np.random.default_rng(1)
    lines = []
    for index, features, head, phase, n in product(
        range(passes), widths, heads, ("train", "predict"), FEW_CLASSES
    ):
        where = cell(head, phase, n, BATCHES[-1], features=features)
        typical = 1e-6 * PHASES[phase] * curve(head, n, BATCHES[-1], features)
        noise = 1 + 0.02 * draw.standard_normal(rounds)
        lines.append(timed(where, index, typical * noise))
        if index == 0:
            lines.append(remembered(where))
    return lines


def curve(head: str, n: int, batch: int, features: int) -> float:
    """`CURVES` at another width: of all but the overhead, half is in proportion to it."""
    overhead = CURVES[head](1, 0)
    return overhead + (CURVES[head](n, batch) - overhead) * (1 + features / FEATURES) / 2


def training(
    head: str,
    seed: int = 0,
    accuracy: float = 0.23,
    epoch_seconds: float = 7.0,
    classes: int = 10,
    epochs: int = 10,
    **others: Any,
) -> dict[str, Any]:
    """A training that approaches `accuracy`; 10,000 test images, spread evenly over the classes."""
    draw = np.random.default_rng(seed)
    per_class = 10_000 // classes
    hits = round(per_class * accuracy)
    elsewhere = (1 - np.eye(classes)) / (classes - 1)
    confusion = np.array([draw.multinomial(per_class - hits, row) for row in elsewhere])
    confusion += hits * np.eye(classes, dtype=int)
    recall = np.diag(confusion) / confusion.sum(axis=1)
    precision = np.diag(confusion) / confusion.sum(axis=0)
    f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-9)
    metrics = {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "top5": min(1.0, 2.2 * accuracy),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
    }
    grown = [1 - math.exp(-0.5 * epoch) for epoch in range(1, epochs + 1)]
    record = {
        "schema": 1,
        "head": head,
        "seed": seed,
        "status": "measured",
        "reason": "",
        "started": "2026-01-01T00:10:00+00:00",
        "seconds": epochs * epoch_seconds * 1.1,
        "dataset": {
            "name": "synthetic CIFAR-100",
            "stand_in": False,
            "reason": "",
            "train_images": 50_000,
            "test_images": 10_000,
            "classes": [f"class {index}" for index in range(classes)],
        },
        "config": {
            "model": "TinyVGG",
            "channels": 10,
            "padding": 0,
            "on": "features",
            "head_options": {},
            "optimizer": "SGD",
            "learning_rate": 0.01,
            "batch_size": 32,
            "epochs": epochs,
            "patience": None,
            "device": "cpu",
            "threads": 2,
            "dtype": "float32",
            "loss_every": 500,
        },
        "losses": [
            {"epoch": epoch, "batch": batch, "loss": 4.6 - 1.5 * grown[epoch - 1] - batch / 1e4}
            for epoch in range(1, epochs + 1)
            for batch in (500, 1000, 1500)
        ],
        "epochs": [
            {
                "epoch": epoch,
                "train_loss": 4.6 - 1.5 * share,
                "test_loss": 4.6 - 1.4 * share,
                "train_seconds": epoch_seconds * (1 + 0.01 * float(draw.standard_normal())),
                "test_seconds": 0.5,
                **{name: value * share for name, value in metrics.items()},
            }
            for epoch, share in enumerate(grown, start=1)
        ],
        "stopped_early": False,
        "final": metrics
        | {
            "per_class": {
                "precision": precision.tolist(),
                "recall": recall.tolist(),
                "f1": f1.tolist(),
            },
            "confusion": confusion.tolist(),
        },
    }
    return record | others


def trace(head: str) -> dict[str, Any]:
    """30 µs in a multiplication inside 100 µs of a linear layer, and what is no operator."""

    def event(name: str, ts: float, dur: float, cat: str = "cpu_op") -> dict[str, Any]:
        return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur}

    return {
        "schemaVersion": 1,
        "traceEvents": [
            event("aten::linear", 0, 100),
            event("aten::addmm", 10, 30),
            event(f"aten::{head}", 200, 50),
            event("ProfilerStep#1", 0, 300, cat="user_annotation"),
            {"ph": "M", "name": "process_name", "pid": 1},
        ],
    }


def write_run(
    folder: Path,
    lines: Iterable[dict[str, Any]] | None = None,
    trainings: Iterable[dict[str, Any]] | None = None,
    **facts: Any,
) -> Path:
    """Write a complete results folder."""
    (folder / "training").mkdir(parents=True)
    stored = {
        "schema": 1,
        "run": folder.name,
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:14:00+00:00",
        "sweep": "synthetic",
        "seed": 0,
        "passes": 3,
        "planned": 1_500,
        "options": {"heads": list(HEADS), "classes": list(CLASSES), "batches": list(BATCHES)},
        "machine": {
            "cpu": "Synthetic CPU",
            "cores": 2,
            "memory_bytes": 25_000_000_000,
            "torch": "0.0",
        },
        "dataset": {"name": "synthetic CIFAR-100", "stand_in": False, "reason": ""},
    } | facts
    (folder / "run.json").write_text(json.dumps(stored))
    lines = [
        *(journal() if lines is None else lines),
        missing(cell("softmax", "train", 2**24, 128), "skipped", "needs 17 GiB, 12 GiB are free"),
        missing(cell("adaptive", "predict", 2**20, 128), "out-of-memory", "tried 4.0 GiB"),
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if trainings is None:
        trainings = [
            training(head, accuracy=accuracy, epoch_seconds=seconds)
            for head, accuracy, seconds in zip(
                TRAINED, (0.23, 0.167, 0.15), (7.0, 6.7, 7.3), strict=True
            )
        ]
    for record in trainings:
        name = re.sub(r"\W", "-", f"{record.get('variant', record['head'])}-seed{record['seed']}")
        (folder / "training" / f"{name}.json").write_text(json.dumps(record))
    for head in TRAINED:
        traces = folder / "traces" / head
        traces.mkdir(parents=True)
        content = json.dumps(trace(head)).encode()
        if head == "softmax":
            (traces / "host.1.pt.trace.json.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (traces / "host.1.pt.trace.json").write_bytes(content)
    return folder
