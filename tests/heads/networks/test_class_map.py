"""Promises of the class map: its mean is the classifier's logit, and what it keeps of validation travels with its state."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from benchmark import registry
from benchmark.heads import class_map, classifier
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.networks.class_map import ClassMap, pooled
from benchmark.metrics.class_maps import Cut

SWITCHES = registry.protocol("corrected").switches
WIDTH, N_CLASSES = 12, 3
REQUEST = HeadRequest({8: 4, 32: WIDTH}, N_CLASSES, 96, SWITCHES, embed_dim=7)


def built(request: HeadRequest = REQUEST) -> ClassMap:
    head = seeded_init(lambda: class_map.build(request), seed=4)
    assert isinstance(head, ClassMap)
    return head


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(5, WIDTH, 3, 3, generator=torch.Generator().manual_seed(1))


def test_the_mean_of_the_map_is_the_logit_of_a_linear_layer_on_the_averaged_features(features: torch.Tensor) -> None:
    head = built()
    maps = head({32: features})
    assert maps.shape == (5, N_CLASSES, 3, 3)
    torch.testing.assert_close(pooled(maps), head.classify(features.mean(dim=(2, 3))))


def test_it_learns_as_the_linear_classifier_on_the_averaged_features(features: torch.Tensor) -> None:
    head = built()
    probe = classifier.build(HeadRequest(REQUEST.channels, N_CLASSES, 96, SWITCHES, embed_dim=WIDTH))
    probe.classify.load_state_dict(head.classify.state_dict())
    labels = torch.tensor([[1, 0, -1], [0, 0, 1], [1, 1, 1], [-1, -1, -1], [0, 1, 0]], dtype=torch.float32)
    losses = [
        one.loss(one(pyramid), Targets(labels=labels))
        for one, pyramid in ((head, {32: features}), (probe, {0: features.mean(dim=(2, 3), keepdim=True)}))
    ]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, one.classify.weight)[0] for loss, one in zip(losses, (head, probe), strict=True)]
    torch.testing.assert_close(*gradients)


def test_a_finer_map_is_averaged_to_the_grid_of_the_protocol() -> None:
    request = HeadRequest({16: WIDTH}, N_CLASSES, 224, registry.protocol("lobe").switches)
    features = torch.randn(1, WIDTH, 14, 14, generator=torch.Generator().manual_seed(2))
    head = built(request)
    assert head.grid == 7
    maps = head({16: features})
    assert maps.shape == (1, N_CLASSES, 7, 7)
    torch.testing.assert_close(maps, F.avg_pool2d(F.conv2d(features, head.classify.weight[:, :, None, None], head.classify.bias), 2))


def test_where_maps_are_cut_is_a_part_of_the_state_and_not_of_what_is_trained() -> None:
    head = built()
    assert head.kept_cuts() == [None] * N_CLASSES
    head.keep_cuts([Cut(0.3, 0.1), None, Cut(0.8, 0.0)])
    other = built()
    other.load_state_dict(head.state_dict())
    assert other.kept_cuts() == [Cut(0.3, 0.1), None, Cut(0.8, 0.0)]
    assert {name for name, _ in head.named_parameters()} == {"classify.weight", "classify.bias"}


def test_its_size_is_what_it_holds() -> None:
    told = class_map.size(REQUEST.channels, N_CLASSES, REQUEST.frame_size)
    assert told.parameters == sum(math.prod(p.shape) for p in built().parameters())
    assert told.strides == built().strides
