"""How well classes were predicted: shares, per-class shares and confusions, with scikit-learn."""

from __future__ import annotations

import torch
from torch import Tensor

from heads.sampled import Sampled
from models.classifier import Classifier
from models.config import Autocast
from models.dataset import Split
from models.steps import casting
from reports.results import Metrics


def measure(
    targets: Tensor, ranked: Tensor, num_classes: int, scored: int | None = None
) -> Metrics:
    """The metrics of ranked predictions.

    Args:
        targets: the right class of each image, (N,), N at least 1.
        ranked: the most probable classes of each image, best first, (N, k); `top5` looks at the
            first five, or at all where there are fewer.
        num_classes: number of classes.
        scored: how many of the first classes macro averages are over; then nothing is said class by
            class. None for all of them.
    """
    # Imported here: with what it brings along it takes as long to import as torch.
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    truth, ranks = targets.cpu().numpy(), ranked.cpu().numpy()
    predicted = ranks[:, 0]
    every = scored in (None, num_classes)
    labels = range(num_classes if scored is None else scored)
    precision, recall, f1, images = precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=0
    )
    tested = images > 0
    return Metrics(
        accuracy=float(accuracy_score(truth, predicted)),
        top5=float((ranks[:, :5] == truth[:, None]).any(axis=1).mean()),
        precision=float(precision[tested].mean()) if tested.any() else 0.0,
        recall=float(recall[tested].mean()) if tested.any() else 0.0,
        f1=float(f1[tested].mean()) if tested.any() else 0.0,
        per_class={
            "precision": precision.tolist(),
            "recall": recall.tolist(),
            "f1": f1.tolist(),
        }
        if every
        else None,
        confusion=confusion_matrix(truth, predicted, labels=labels) if every else None,
        predictions=len(truth),
    )


@torch.no_grad()
def normaliser_bias(
    model: Classifier, split: Split, autocast: Autocast = "float32"
) -> float | None:
    """How much too probable, in nats, training takes the targets of `split` to be, on average.

    That is the mean of the estimated log-probability less the exact one: what an estimate of the
    normaliser from a sample leaves out. None for a head that does not estimate.
    """
    if not isinstance(model.head, Sampled):
        return None
    model.eval()
    device = split.targets.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    with casting(autocast, device):
        for inputs, targets in split.batches(model.test_batch[device.type != "cpu"]):
            features = model.embed(inputs)
            exact = model.head(features, targets).output
            model.head.train()
            total += (model.head(features, targets).output - exact).double().sum()
            model.head.eval()
    model.train()
    return float(total) / len(split.targets)
