"""What a text side owes is said before a task asks in words: the base class, and the types of what two methods return."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark import registry
from benchmark.cards import IMAGENET, BackboneSpec
from benchmark.encoders import naming, text_contract
from benchmark.encoders.base import Backbone, ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError

IMAGES = torch.zeros(2, 64, 64, dtype=torch.uint8)
WIDTH = 4
GOOD_IMAGE = ImageEmbedding(torch.zeros(2, WIDTH), torch.zeros(2, WIDTH, 2, 2))
GOOD_TEXT = TextEmbedding(torch.zeros(1, WIDTH), torch.zeros(1, WIDTH, 3), torch.ones(1, 3, dtype=torch.bool))


def encoder(base: type[Backbone] = VisionLanguageBackbone, image=GOOD_IMAGE, text=GOOD_TEXT, methods: bool = True) -> SealedEncoder:
    def made(value):
        if isinstance(value, Exception):
            raise value
        return value

    class Mine(base):
        def __init__(self):
            super().__init__()
            self.spec = BackboneSpec(name="mine", strides={32: WIDTH}, embed_dim=WIDTH)
            self.look = nn.Conv2d(3, WIDTH, 32, stride=32)

        def pyramid(self, images, strides=None):
            return {32: self.look(images)}

        def pooled(self, images):
            return self.look(images).mean(dim=(2, 3))

    if methods:
        Mine.embed_images = lambda self, images: made(image)
        Mine.embed_texts = lambda self, texts: made(text)
        Mine.__abstractmethods__ = frozenset()
    return SealedEncoder(Mine(), IMAGENET)


def test_the_families_that_read_no_text_are_those_without_a_class_that_could() -> None:
    modules = {name: registry.plugin("encoders", name) for name in registry.plugins("encoders")}
    families = {name: vars(module) for name, module in modules.items() if hasattr(module, "build")}
    classes = {name: [one for one in found.values() if isinstance(one, type)] for name, found in families.items()}
    read = {name for name, found in classes.items() if any(issubclass(one, VisionLanguageBackbone) for one in found)}
    assert set(families) - read - {naming.PYTHON} == naming.IMAGES_ONLY


def test_a_text_side_that_keeps_its_contract_has_no_fault() -> None:
    assert text_contract.fault(encoder(), IMAGES) is None


def test_a_backbone_without_text_side_owes_nothing_until_it_is_asked() -> None:
    plain = encoder(Backbone, methods=False)
    assert text_contract.fault(plain, IMAGES) is None
    with pytest.raises(ConformanceError, match="mine has no text side, and my-task compares images with words: derive it from"):
        text_contract.require_text_side(plain.backbone, "my-task")


def test_own_methods_on_another_class_are_told_the_base_class_and_the_types() -> None:
    own = encoder(Backbone)
    said = text_contract.fault(own, IMAGES)
    assert said.startswith("mine has embed_images and embed_texts, but Mine is no vision-language backbone")
    for owed in ("benchmark.encoders.base.VisionLanguageBackbone", "ImageEmbedding", "(N, D, h, w)", "TextEmbedding", "`mask` (M, T)"):
        assert owed in said
    with pytest.raises(ConformanceError, match=r"VisionLanguageBackbone.*my-task needs it"):
        text_contract.require_text_side(own.backbone, "my-task")


@pytest.mark.parametrize(
    ("image", "text", "said"),
    [
        (torch.zeros(2, WIDTH), GOOD_TEXT, "embed_images() returned Tensor, not an ImageEmbedding"),
        ((torch.zeros(2, WIDTH), None), GOOD_TEXT, "embed_images() returned tuple, not an ImageEmbedding"),
        (ImageEmbedding(torch.zeros(2, WIDTH), None), GOOD_TEXT, "embed_images() returned `local` as NoneType, not a tensor"),
        (ImageEmbedding(torch.zeros(2, WIDTH), torch.zeros(2, 4, WIDTH)), GOOD_TEXT, "`local` of shape (2, 4, 4); 4 dimensions"),
        (ImageEmbedding(torch.zeros(1, WIDTH), torch.zeros(2, WIDTH, 2, 2)), GOOD_TEXT, "`global_` of shape (1, 4); 2 dimensions, 2 first"),
        (GOOD_IMAGE, torch.zeros(1, WIDTH), "embed_texts() returned Tensor, not a TextEmbedding"),
        (GOOD_IMAGE, TextEmbedding(torch.zeros(1, WIDTH), torch.zeros(1, WIDTH, 3), None), "`mask` as NoneType"),
        (GOOD_IMAGE, TextEmbedding(torch.zeros(1, 7), torch.zeros(1, 7, 3), torch.ones(1, 3)), "width 4, embed_texts() of 7"),
        (ZeroDivisionError("by zero"), GOOD_TEXT, "mine: its text side failed with ZeroDivisionError: by zero"),
    ],
)
def test_what_a_text_side_returns_wrongly_is_named(image, text, said: str) -> None:
    assert said in text_contract.fault(encoder(image=image, text=text), IMAGES)
