"""The demo's backbone with words: what it was pre-trained to, asked for in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark import contamination
from benchmark.cards import Contamination
from benchmark.demo.word_backbone import WordBackbone, pretrained
from benchmark.training.word_reader import reader_file

WORDS = ("patchy", "clear", "lungs are")


@pytest.fixture
def stored(tmp_path: Path) -> tuple[WordBackbone, Path]:
    """A backbone, and its two files as pre-training leaves them."""
    torch.manual_seed(0)
    backbone = WordBackbone(WORDS).eval()
    backbone.reader.usual.uniform_()
    weights = tmp_path / "resnet18.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in backbone.encoder.network.state_dict().items()}, weights)
    save_file(backbone.reader.state_dict(), reader_file(weights))
    return backbone, weights


@torch.no_grad()
def test_it_is_read_back_whole(stored):
    backbone, weights = stored
    again = pretrained(weights).eval()
    images = torch.rand(2, 3, 64, 64)
    assert again.reader.words == WORDS
    assert torch.equal(again.embed_images(images).global_, backbone.embed_images(images).global_)


def test_tensors_that_are_missing_or_left_over_are_an_error(stored):
    _, weights = stored
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if name != "conv1.weight"}, weights)
    with pytest.raises(RuntimeError, match=r"conv1\.weight"):
        pretrained(weights)
    save_file(tensors | {"more": torch.zeros(1)}, weights)
    with pytest.raises(RuntimeError, match="more"):
        pretrained(weights)


@torch.no_grad()
def test_an_image_is_the_sum_of_its_places_and_a_text_the_words_it_uses(stored):
    backbone, _ = stored
    image = backbone.embed_images(torch.rand(2, 3, 64, 64))
    assert image.local.shape == (2, 3, 4, 4)
    torch.testing.assert_close(image.global_, image.local.sum(dim=(2, 3)))
    text = backbone.embed_texts(["The lungs are clear.", "Patchy opacity.", "A nodule."])
    assert text.global_.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert text.mask[:, 0].tolist() == [True, True, False]  # of the last it knows no word
    assert torch.isfinite(backbone.similarity(image, text)).all()


def test_generated_images_are_no_images_of_any_dataset():
    seen = contamination.contamination_of(WordBackbone(WORDS).spec.pretraining, {})
    assert set(seen.values()) == {Contamination.NONE}
    assert {"rsna", "covid-rural"} <= seen.keys()
