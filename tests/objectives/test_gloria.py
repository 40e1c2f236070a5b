"""GLoRIA's losses equal the released code's, on the vectors of its reference."""

from __future__ import annotations

import pytest
import torch

from benchmark.heads.networks.local_similarity import attention, local_similarity
from benchmark.objectives.gloria import Gloria, Options, local_losses, shortened, whole_texts, word_vectors
from benchmark.objectives.kit.base import Encoded, EncodedTexts, Widths
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.losses import contrast, cosines
from tests.pretraining.numbers import RELATIVE, leaf, norm, r

THREE = Group.alone(3)


def approx(expected):
    return pytest.approx(expected, rel=RELATIVE, abs=2e-6)


def test_words_look_at_regions():
    words, regions = r(12, (2, 6, 5)), r(11, (2, 6, 3, 3)).flatten(2)
    looked = attention(regions[:1], words[0])[0]
    assert looked[0, :6].tolist() == approx([0.164122, 0.067296, 0.074971, 0.082668, 0.279446, 0.090641])
    found = regions[1] @ attention(regions[1:], words[1])[0, 4]
    assert found.tolist() == approx([0.443362, 0.480156, 0.363809, 1.021438, 0.765204, 0.197679])


def test_images_and_texts_by_their_regions_and_words():
    regions, words = leaf(13, (3, 6, 3, 3)), leaf(14, (3, 6, 7))
    there, back = local_losses(regions.flatten(2), words, torch.tensor([4, 6, 5]), 10.0, THREE)
    assert (there.item(), back.item()) == (approx(5.612030), approx(5.916096))
    (there + back).backward()
    assert norm(regions, words) == approx([13.850430, 14.760156])
    assert float(words.grad[0, :, 4:].abs().sum() + words.grad[2, :, 5:].abs().sum()) == 0


def test_similarities_of_every_image_with_every_text():
    regions, words = r(13, (3, 6, 3, 3)).flatten(2), r(14, (3, 6, 7))
    scores = [local_similarity(regions, words[text][:, :n], "sum") for text, n in enumerate((4, 6, 5))]
    expected = [[43.900162, 47.247772, 44.660015], [35.202175, 47.051922, 54.116825], [48.413044, 49.094284, 43.187504]]
    for row, values in zip(10 * torch.stack(scores, dim=1), expected, strict=True):
        assert row.tolist() == approx(values)


def test_all_four_losses():
    image, text = leaf(15, (3, 8)), leaf(16, (3, 8))
    there, back = contrast(image, text, 10.0, THREE)
    assert (there.item(), back.item()) == (approx(2.609787), approx(2.479605))
    (there + back).backward()
    assert norm(image) == approx([4.522735])
    local = local_losses(r(13, (3, 6, 3, 3)).flatten(2), r(14, (3, 6, 7)), torch.tensor([4, 6, 5]), 10.0, THREE)
    assert float(there + back + sum(local)) == approx(16.617517)


def test_whole_images_and_texts_by_hand():
    images, texts = torch.tensor([[1.0, 2, -1], [0, 1, 3]]), torch.tensor([[2.0, 1, 0], [-1, 0.5, 2]])
    assert cosines(images[None], texts[None]).flatten().tolist() == pytest.approx([0.730297, -0.356348, 0.141421, 0.897085], abs=1e-6)
    losses = contrast(images, texts, 10.0, Group.alone(2))
    assert [one.item() for one in losses] == pytest.approx([0.000271, 0.001385], abs=1e-6)


def test_words_are_sums_of_pieces_and_layers():
    """[CLS] a ##b c [SEP] [PAD] [PAD]: three vectors count, and the whole is the mean of all seven."""
    mask = torch.tensor([[True] * 5 + [False] * 2])
    word = torch.tensor([[0, 1, 1, 2, 3, -1, -1]])
    states = r(17, (1, 4, 7, 3)).transpose(0, 1)
    real = states * mask[None, :, :, None]
    texts = EncodedTexts(real, mask, word, word)
    words, counted = word_vectors(texts, Group.alone(1))
    assert whole_texts(texts)[0].tolist() == approx([0.148577, -1.178225, -0.674541])
    assert counted.tolist() == [3]
    assert torch.allclose(words[0, :, 1], real.sum(dim=0)[0, 1:3].sum(dim=0))


def test_an_unknown_word_shortens_the_released_text_and_its_last_word_falls_out():
    """[CLS] a [UNK] b [SEP]: three words count, in the released code [CLS] and two of them."""
    word = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    states = r(17, (4, 2, 5, 3))
    texts = EncodedTexts(states, torch.ones(2, 5, dtype=torch.bool), word, word, None, torch.tensor([1, 0]))
    assert shortened(word_vectors(texts, Group.alone(2))[1], texts).tolist() == [3, 4]
    maps = {16: r(18, (2, 4, 2, 2)), 32: r(19, (2, 6, 1, 1))}
    encoded = Encoded(r(20, (2, 3, 8, 8)), maps, texts, torch.arange(2))
    found = []
    for unknown in ("counts", "shortens"):
        torch.manual_seed(0)
        objective = Gloria(Widths({16: 4, 32: 6}, 3), Options(unknown=unknown))
        found.append(objective(encoded, Group.alone(2), 0.0))
    assert float(found[0]["regions to text"]) != float(found[1]["regions to text"])
    assert float(found[0]["image to text"]) == float(found[1]["image to text"])
    # As if its last word were not there.
    objective.options = Options()
    shorter = EncodedTexts(states, texts.mask, torch.tensor([[0, 1, 2, 3, -1], [0, 1, 2, 3, 4]]), word)
    words, counted = word_vectors(shorter, Group.alone(2))
    regions = objective.local_embedder(maps[16]).flatten(2)
    assert float(local_losses(regions, words, counted, 10.0, Group.alone(2))[0]) == approx(float(found[1]["regions to text"].detach()))
