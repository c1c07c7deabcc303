"""How well classes were predicted: shares, per-class shares and confusions, with scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from torch import Tensor


@dataclass(frozen=True)
class Metrics:
    """Figures of one test pass; shares are in [0, 1].

    The averages are macro averages over the classes that have test images: of the others no recall
    is defined, and their 0 would say nothing about the head. A class that is never predicted has no
    precision either, but that is the head's doing: its 0 counts.

    Attributes:
        accuracy: share of images whose most probable class is right.
        top5: share of images whose class is among the five most probable; with five classes or
            fewer it is always 1.
        precision: mean over classes of the share of its predictions that are right.
        recall: mean over classes of the share of its images that are found.
        f1: mean over classes of 2 TP / (2 TP + FP + FN), the harmonic mean of the two.
        per_class: `precision`, `recall` and `f1` of each class; 0 where not defined.
        confusion: entry [i][j] counts the images of class i predicted as j.
    """

    accuracy: float
    top5: float
    precision: float
    recall: float
    f1: float
    per_class: Mapping[str, Sequence[float]]
    confusion: Sequence[Sequence[int]]


def measure(targets: Tensor, ranked: Tensor, num_classes: int) -> Metrics:
    """The metrics of ranked predictions.

    Args:
        targets: the right class of each image, (N,), N at least 1.
        ranked: the most probable classes of each image, best first, (N, k); `top5` looks at the
            first five, or at all where there are fewer.
        num_classes: number of classes.
    """
    truth, ranks = targets.cpu().numpy(), ranked.cpu().numpy()
    predicted = ranks[:, 0]
    labels = range(num_classes)
    precision, recall, f1, images = precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=0
    )
    tested = images > 0
    return Metrics(
        accuracy=float(accuracy_score(truth, predicted)),
        top5=float((ranks[:, :5] == truth[:, None]).any(axis=1).mean()),
        precision=float(precision[tested].mean()),
        recall=float(recall[tested].mean()),
        f1=float(f1[tested].mean()),
        per_class={
            "precision": precision.tolist(),
            "recall": recall.tolist(),
            "f1": f1.tolist(),
        },
        confusion=confusion_matrix(truth, predicted, labels=labels).tolist(),
    )
