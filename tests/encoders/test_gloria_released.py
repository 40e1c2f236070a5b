"""GLoRIA against values that its released code printed (docs/sources.md, GLoRIA), executed at its commit 416466a on the CPU in float32.

The released code read these prompts itself, with this vocabulary and a BERT of these weights; the images were given as their embeddings.
[CLS] was counted by putting a vector before it: the released zero-shot code leaves out the first one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from benchmark.encoders import gloria
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.text import Tokenizer, bert_states, words_of
from benchmark.heads.networks.local_similarity import best_words
from benchmark.objectives import gloria as objectives
from benchmark.objectives.kit.base import Encoded, EncodedTexts, Widths
from benchmark.objectives.kit.group import Group
from tests.pretraining.numbers import fill, r

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "pneumo", "##thorax", "mild", "edema", "left", "lung", "base", "effusion", "small"]
PROMPTS = ["No pneumothorax. Mild edema.", "small left effusion", "mild edema left lung base", "No effusion"]
N_CHARACTERS, N_WORDS = [28, 19, 25, 11], [4, 3, 5, 2]
WIDTH = 32

# Rows are images, columns prompts.
GLOBAL = [
    [0.386236, 0.287037, 0.382521, 0.190246],
    [-0.045575, -0.106789, -0.051828, -0.065783],
    [0.200632, 0.194121, 0.218151, 0.167376],
    [0.096995, 0.070856, 0.076249, -0.067180],
]
LOCAL = [
    [1.118756, 1.076210, 1.388700, 1.450610],
    [1.800355, 2.116758, 1.968894, 2.251184],
    [1.258283, 1.190390, 1.398788, 1.036907],
    [2.101734, 1.380368, 1.715089, 1.215367],
]
AS_RELEASED = [
    [0.752496, 0.681623, 0.885611, 0.820428],
    [0.877390, 1.004985, 0.958533, 1.092700],
    [0.729458, 0.692255, 0.808469, 0.602142],
    [1.099365, 0.725612, 0.895669, 0.574093],
]
WITH_CLS = [
    [0.752496, 0.681255, 0.885611, 0.820366],
    [0.860675, 1.005017, 1.188281, 0.870132],
    [0.729460, 0.693445, 0.808522, 0.599677],
    [0.977843, 0.684132, 0.895285, 1.007749],
]
# The released similarity with the number of words given instead of the number of characters.
WORDS_ALONE = [
    [0.831699, 0.537652, 0.692379, 0.342699],
    [0.877132, 0.607092, 0.783210, 0.570626],
    [0.638078, 0.670563, 0.807287, 0.319059],
    [1.095636, 0.717107, 0.889367, 0.593821],
]
WORDS_AND_CLS = [
    [0.831699, 0.633762, 0.692966, 0.512597],
    [0.860461, 0.611196, 0.901004, 0.576269],
    [0.647483, 0.640964, 0.807344, 0.481073],
    [0.972099, 0.674715, 0.888981, 0.765896],
]
# What the released local loss gave to its cross-entropy, over the ten by which it multiplies.
TRAINING = [
    [1.882210, 1.780916, 1.795040, 1.551427],
    [2.620967, 2.264323, 2.686244, 2.033504],
    [1.945542, 1.740829, 2.390365, 1.622486],
    [2.560980, 2.164546, 2.762161, 2.244244],
]
# Cleaning leaves nothing of the first, so that its five vectors are [SEP] and zeros; the second counts no opening bracket.
ODD_PROMPTS, N_ODD = ["edema", "[no edema] left"], [5, 14]
ODD = [[0.747110, 0.869990], [0.958579, 0.972111], [0.532635, 0.841165], [0.764894, 0.728257]]
LOSSES = {"regions to text": 2.643023, "words to image": 3.096372, "image to text": 1.636638, "text to image": 2.419259}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> gloria.Gloria:
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=WIDTH, num_hidden_layers=4, num_attention_heads=2, intermediate_size=WIDTH
    )
    config.save_pretrained(folder)
    made = gloria.Gloria("resnet18", config).eval().requires_grad_(False)
    by_name = sorted(made.network.text_encoder.model.named_parameters())
    fill([(parameter, name.endswith("LayerNorm.weight")) for name, parameter in by_name], 600)
    made.tokenizer = Tokenizer(folder, gloria.MAX_TOKENS)
    return made


@pytest.fixture(scope="module")
def image() -> ImageEmbedding:
    return ImageEmbedding(r(710, (4, WIDTH)), r(711, (4, WIDTH, 3, 3)))


def agrees(found: torch.Tensor, printed: list[list[float]]) -> None:
    np.testing.assert_allclose(found.numpy(), printed, rtol=0, atol=2e-5)


def with_cls(text: TextEmbedding) -> TextEmbedding:
    mask = text.mask.clone()
    mask[:, 0] = True
    return replace(text, mask=mask)


def test_zero_shot_similarity_is_what_the_released_code_printed(backbone, image) -> None:
    text = backbone.embed_prompts(PROMPTS)
    assert text.mask.sum(dim=1).tolist() == N_CHARACTERS
    agrees(backbone.similarity(image, text), AS_RELEASED)
    agrees(best_words(image.local, text.local, text.mask), LOCAL)
    agrees(VisionLanguageBackbone.similarity(backbone, image, text), GLOBAL)


def test_odd_prompts_are_as_near_as_the_released_code_printed(backbone, image) -> None:
    text = backbone.embed_prompts(ODD_PROMPTS)
    assert text.mask.sum(dim=1).tolist() == N_ODD
    agrees(backbone.similarity(image, text), ODD)


def test_zero_shot_similarity_of_the_words_alone_is_what_the_released_code_printed(backbone, image) -> None:
    text = backbone.embed_texts(PROMPTS)
    assert text.mask.sum(dim=1).tolist() == N_WORDS
    agrees(backbone.similarity(image, text), WORDS_ALONE)


@pytest.mark.parametrize(
    ("read", "printed", "counted", "i", "prompt", "another"),
    [
        ("embed_prompts", AS_RELEASED, WITH_CLS, 1, 3, 2),  # 1.092700 is the largest; with [CLS] 1.188281
        ("embed_prompts", AS_RELEASED, WITH_CLS, 3, 0, 3),  # 1.099365; 1.007749
        ("embed_texts", WORDS_ALONE, WORDS_AND_CLS, 1, 0, 2),  # 0.877132; 0.901004
    ],
)
def test_an_image_is_of_another_class_where_cls_is_counted(
    backbone, image, read: str, printed: list, counted: list, i: int, prompt: int, another: int
) -> None:
    text = getattr(backbone, read)(PROMPTS)
    found, wrong = backbone.similarity(image, text), backbone.similarity(image, with_cls(text))
    agrees(found[i], printed[i])
    agrees(wrong[i], counted[i])
    assert (int(found[i].argmax()), int(wrong[i].argmax())) == (prompt, another)


def test_training_similarity_is_what_the_released_loss_compared(backbone, image) -> None:
    agrees(backbone.training_similarity(image, backbone.embed_texts(PROMPTS)), TRAINING)


def test_the_objectives_losses_are_what_the_released_code_printed(backbone, image) -> None:
    tokens = backbone.tokenise([gloria.clean(prompt) for prompt in PROMPTS])
    word = torch.full(tokens.ids.shape, -1)
    for row, pieces in enumerate(tokens.pieces):
        word[row, : len(pieces)] = torch.tensor(words_of(pieces)[1])
    texts = EncodedTexts(bert_states(backbone.network.text_encoder.model, tokens, 4), tokens.mask, word, word)
    objective = objectives.Gloria(Widths({16: WIDTH, 32: WIDTH}, WIDTH), objectives.Options()).requires_grad_(False)
    objective.global_embedder.weight.copy_(torch.eye(WIDTH))
    objective.global_embedder.bias.zero_()
    objective.local_embedder.weight.copy_(torch.eye(WIDTH)[..., None, None])
    maps = {16: image.local, 32: image.global_[..., None, None]}
    losses = objective(Encoded(torch.zeros(4, 3, 8, 8), maps, texts, torch.arange(4)), Group.alone(4), 0.0)
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(LOSSES, rel=0, abs=2e-5)
