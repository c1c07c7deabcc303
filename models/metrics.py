"""How well classes were predicted: shares, per-class shares and confusions, with scikit-learn."""

from __future__ import annotations

from torch import Tensor

from reports.results import Metrics


def measure(targets: Tensor, ranked: Tensor, num_classes: int) -> Metrics:
    """The metrics of ranked predictions.

    Args:
        targets: the right class of each image, (N,), N at least 1.
        ranked: the most probable classes of each image, best first, (N, k); `top5` looks at the
            first five, or at all where there are fewer.
        num_classes: number of classes.
    """
    # Imported here: with what it brings along it takes as long to import as torch.
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

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
        confusion=confusion_matrix(truth, predicted, labels=labels),
    )
