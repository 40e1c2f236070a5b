"""Every head on an encoder with all levels and on one with a single grid: loss, gradients, predictions."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from benchmark import registry
from benchmark.cards import IMAGENET, POOLED, Switches
from benchmark.encoders import timm, torchvision
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.networks.pyramid import on_one_grid
from benchmark.registry import plugin

SIZE = 64
TARGETS = Targets(
    masks=(torch.arange(SIZE).view(1, 1, 1, SIZE) > 40).float().expand(2, 1, SIZE, SIZE),
    boxes_xywh=torch.tensor([[[10.0, 20, 30, 25]], [[0, 0, 0, 0]]]),
    box_labels=torch.zeros(2, 1, dtype=torch.long),
    box_valid=torch.tensor([[True], [False]]),
    labels=torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
    draws=((0, 0), (0, 1)),
)
TRAINED = [
    "linear",
    "unet",
    "smp_unet",
    "yolov3",
    "yolov3_mgca",
    "faster_rcnn",
    "classifier",
    "softmax_classifier",
    "nearest_neighbour",
    "attentive",
    "class_map",
]


@pytest.fixture(scope="module", params=["resnet18", "test_vit"])
def encoder(request):
    family = torchvision if request.param == "resnet18" else timm
    return SealedEncoder(seeded_init(lambda: family.build(request.param), 0), IMAGENET)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of Faster R-CNN read a thousand proposals an image and take most of the time at their full width."""
    monkeypatch.setattr("benchmark.heads.networks.faster_rcnn.HIDDEN", 64)


@pytest.mark.parametrize("name", ["linear", "unet", "smp_unet", "yolov3", "faster_rcnn"])
@pytest.mark.parametrize("mode", ["frozen", "training"])
def test_head_trains_on_the_encoder(encoder, name, mode):
    encoder.set_mode(mode)
    encoder.zero_grad(set_to_none=True)
    request = HeadRequest(channels=encoder.backbone.spec.strides, n_classes=1, frame_size=SIZE, switches=Switches())
    head = seeded_init(lambda: on_one_grid(request, plugin("heads", name).build), 0)
    images = encoder.normalise(torch.randint(0, 256, (2, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    outputs = head(encoder.pyramid_of(images, head.strides), images if head.reads_image else None)
    loss = head.loss(outputs, TARGETS)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert any(parameter.grad is not None for parameter in encoder.parameters()) == (mode == "training")
    predicted = head.predict(outputs)
    if registry.head(name).target == "masks":
        assert predicted.shape == TARGETS.masks.shape
        assert predicted.min() >= 0
        assert predicted.max() <= 1
    else:
        assert len(predicted) == 2
        assert all((image.confidence.diff() <= 0).all() for image in predicted)


@pytest.mark.parametrize("name", TRAINED)
def test_the_sums_of_a_batch_are_those_of_its_images_added(name):
    """Micro-batches and processes rest on it. Two images with known labels and boxes, or without."""
    request = HeadRequest(
        {4: 8, 8: 8, 16: 8, 32: 8}, 3 if registry.head(name).target.startswith("labels") else 1, SIZE, Switches(), embed_dim=8
    )
    head = seeded_init(lambda: plugin("heads", name).build(request), 0).eval()
    generator = torch.Generator().manual_seed(0)
    sides = {POOLED: 1} | {stride: SIZE // stride for stride in request.channels}
    pyramid = {stride: torch.randn(2, 8, side, side, generator=generator) for stride, side in sides.items()}
    with torch.no_grad():
        outputs = head({stride: pyramid[stride] for stride in head.strides}, torch.zeros(2, 3, SIZE, SIZE))
        whole = head.sums(outputs, TARGETS)
        each = [head.sums(_image(outputs, i), _image(TARGETS, i)) for i in range(2)]
    torch.testing.assert_close(torch.stack(each).sum(dim=0), whole, rtol=1e-5, atol=1e-6)
    assert head.loss(outputs, TARGETS) == head.loss_of(whole, 2)


def _image(values, place: int):
    """One image of outputs or of targets."""
    if isinstance(values, Targets):
        return Targets(**{field.name: getattr(values, field.name)[place : place + 1] for field in fields(Targets)})
    return values[place : place + 1] if isinstance(values, torch.Tensor) else tuple(tensor[place : place + 1] for tensor in values)


def test_what_a_head_says_of_itself_is_so() -> None:
    trained = {name: facts for name, facts in registry.heads().items() if facts.trains}
    assert set(trained) == set(TRAINED)
    request = HeadRequest({4: 8, 8: 8, 16: 8, 32: 8}, 3, SIZE, Switches(), embed_dim=8)
    for name, facts in trained.items():
        head = plugin("heads", name).build(request)
        assert head.exclusive == facts.exclusive
    assert not any(hasattr(plugin("heads", name), "build") for name in set(registry.heads()) - set(trained))
