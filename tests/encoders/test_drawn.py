"""What differs between two seeds is an untrained network, whatever of it is fixed, or a trained one with a tensor left to chance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.drawn import require_untrained
from benchmark.errors import ConformanceError


class Net(nn.Module):
    """Two convolutions and BatchNorm, with what a test adds."""

    def __init__(self, seed: int, add: Callable[[nn.Module], None] = lambda net: None, **said):
        super().__init__()
        torch.manual_seed(seed)
        self.spec = BackboneSpec(name="net", strides={4: 16}, embed_dim=16, **said)
        self.first, self.norm, self.second = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3)
        add(self)


def both(add: Callable[[nn.Module], None] = lambda net: None, **said) -> tuple[Net, Net]:
    return Net(0, add, **said), Net(1, add, **said)


TABLE = torch.linspace(0, 1, 10_000).sin()  # larger than all that is drawn
RATES = torch.arange(1.0, 17).log()


def identity() -> nn.Module:
    made = nn.Conv2d(16, 16, 1, bias=False)
    nn.init.dirac_(made.weight)
    return made


FIXED: dict[str, Callable[[nn.Module], None]] = {
    "nothing": lambda net: None,
    "a table of positions": lambda net: net.register_parameter("positions", nn.Parameter(TABLE, requires_grad=False)),
    "filters in a buffer": lambda net: net.register_buffer("filters", TABLE),
    "learned rates of decay": lambda net: net.register_parameter("rates", nn.Parameter(RATES)),
    "learned scales of one": lambda net: net.register_parameter("scales", nn.Parameter(torch.ones(10_000))),
    "an identity": lambda net: net.register_module("look", identity()),
}


@pytest.mark.parametrize("add", FIXED.values(), ids=FIXED)
def test_an_untrained_network_with_fixed_parts_is_taken_as_one(add: Callable[[nn.Module], None]) -> None:
    require_untrained("mine.py:build", *both(add))
    require_untrained("mine.py:build", *both(add, pretraining=(), contamination={"rsna": "none"}))


@pytest.mark.parametrize("name", ["convit_tiny", "xcit_nano_12_p16_224", "test_vit"])
def test_an_untrained_network_of_a_library_is_taken_as_one(name: str) -> None:
    """ConViT learns from heads that look at fixed places, XCiT from scales of one value."""
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(timm.create_model(name, num_classes=0))
        made[-1].spec = BackboneSpec(name=name, strides={16: 1}, embed_dim=1)
    require_untrained("mine.py:build", *made)


def trained(net: nn.Module) -> None:
    """All but a classifier comes from a file."""
    net.fc = nn.Linear(16, 3)
    net.load_state_dict(Net(5).state_dict(), strict=False)


def test_a_trained_network_with_a_tensor_that_no_file_fills_is_refused_by_its_name() -> None:
    with pytest.raises(ConformanceError, match=r"^mine\.py:build draws fc\.weight, fc\.bias anew at every call, and most of what") as told:
        require_untrained("mine.py:build", *both(trained))
    assert "Call torch.manual_seed before building, or load every tensor" in str(told.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"pretraining": ("mimic-cxr", "our own")}, "mimic-cxr, our own"),
        ({"contamination": {"rsna": "none", "nih-cxr": "images"}}, "nih-cxr"),
    ],
)
def test_what_says_that_it_saw_images_is_drawn_by_nobody(said: dict, shown: str) -> None:
    with pytest.raises(ConformanceError, match=rf"first\.bias and 2 more tensors anew .*says that it was pre-trained \({shown}\)"):
        require_untrained("mine.py:build", *both(lambda net: net.register_parameter("third", nn.Parameter(torch.rand(1))), **said))
