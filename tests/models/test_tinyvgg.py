import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heads
from models import tinyvgg
from models.classifier import Classifier
from models.tinyvgg import TinyVGG


def convolve(images: Tensor, layer: nn.Module, padding: int) -> Tensor:
    """A 3x3 convolution spelled out as a sum over its nine shifts."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    padded = F.pad(images, [padding] * 4)
    height, width = padded.shape[2] - 2, padded.shape[3] - 2
    out = layer.bias.view(1, -1, 1, 1)
    for row in range(3):
        for column in range(3):
            window = padded[:, :, row : row + height, column : column + width]
            out = out + torch.einsum("nchw,oc->nohw", window, layer.weight[:, :, row, column])
    return out


def pool(images: Tensor) -> Tensor:
    height, width = (side // 2 * 2 for side in images.shape[2:])
    corners = [images[:, :, r:height:2, c:width:2] for r in (0, 1) for c in (0, 1)]
    return torch.stack(corners).amax(dim=0)


@pytest.mark.parametrize("padding", [0, 1])
def test_body_is_two_blocks_of_convolutions_and_pooling(padding: int) -> None:
    body = TinyVGG(channels=7, padding=padding).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = images
    convolutions = [layer for layer in body.layers if isinstance(layer, nn.Conv2d)]
    for first, second in (convolutions[:2], convolutions[2:]):
        expected = convolve(expected, first, padding).relu()
        expected = pool(convolve(expected, second, padding).relu())
    torch.testing.assert_close(body(images), expected.flatten(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pooling_before_the_relu_gives_the_gradient_of_pooling_after_it(dtype: torch.dtype) -> None:
    body = TinyVGG(channels=7).to(dtype)
    published = copy.deepcopy(body)
    layers = published.layers
    for pooling in (3, 8):
        layers[pooling], layers[pooling + 1] = layers[pooling + 1], layers[pooling]
    assert [type(layer) for layer in layers] == 2 * [
        *(nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.MaxPool2d)
    ]
    images = torch.randn(5, 3, 32, 32, dtype=dtype)
    for model in (body, published):
        model(images).square().sum().backward()
    for ours, theirs in zip(body.parameters(), published.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


def test_published_model_has_its_published_size() -> None:
    model = tinyvgg.build("softmax", 100)
    convolutions = (3 * 10 * 9 + 10) + 3 * (10 * 10 * 9 + 10)
    assert sum(p.numel() for p in model.parameters()) == convolutions + 250 * 100 + 100


@pytest.mark.parametrize(
    ("channels", "padding", "width"), [(10, 0, 250), (10, 1, 640), (3, 2, 363)]
)
def test_head_sits_on_the_features(channels: int, padding: int, width: int) -> None:
    model = tinyvgg.build("softmax", 7, channels=channels, padding=padding)
    assert model.head.in_features == model.body.out_features == width
    assert model.log_prob(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_published_hierarchical_head_sits_on_100_logits() -> None:
    model = tinyvgg.build("hierarchical-padded", 100, on="logits")
    images = torch.randn(4, 3, 32, 32)
    assert model.head.in_features == 100
    assert isinstance(model.linear, nn.Linear)
    logits = model.linear(model.body(images))
    torch.testing.assert_close(model.log_prob(images), model.head.log_prob(logits))


@pytest.mark.parametrize("name", heads.names())
def test_classifier_offers_what_its_head_offers(name: str) -> None:
    model = tinyvgg.build(name, 33, channels=2).eval()
    images, targets = torch.randn(5, 3, 32, 32), torch.arange(5)
    features = model.body(images)
    output, loss = model(images, targets)
    expected = model.head(features, targets)
    assert torch.equal(output, expected.output)
    assert torch.equal(loss, expected.loss)
    assert torch.equal(model.predict(images), model.head.predict(features))
    assert torch.equal(model.topk(images, 3)[1], model.head.topk(features, 3)[1])


def test_every_head_starts_from_the_same_body_under_one_seed() -> None:
    bodies = []
    for name in heads.names():
        torch.manual_seed(5)
        bodies.append(nn.utils.parameters_to_vector(tinyvgg.build(name, 10).body.parameters()))
    assert all(torch.equal(bodies[0], body) for body in bodies)


def test_many_classes_fit_on_the_body() -> None:
    model = tinyvgg.build("hierarchical", 262_144)
    output, _ = model(torch.randn(2, 3, 32, 32), torch.tensor([0, 262_143]))
    assert output.shape == (2,)


def test_head_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="in_features=250, got 100"):
        Classifier(TinyVGG(), heads.build("softmax", 100, 10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"on": "pixels"}, "on must be .* got 'pixels'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tinyvgg.build("softmax", 10, **options)  # type: ignore[arg-type]
