"""GLoRIA's text side against its released rules (docs/sources.md, GLoRIA), worked out here a word at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from benchmark.encoders import gloria
from benchmark.encoders.base import ImageEmbedding, TextEmbedding
from benchmark.encoders.text import Tokenizer
from benchmark.errors import UsageError

BERT = transformers.BertConfig(vocab_size=16, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "pneumo", "##thorax", "mild", "edema", "left", "lung", "base", "effusion"]
PIECES = ["[CLS]", "no", "pneumo", "##thorax", "mild", "edema", "[SEP]"]
PROMPT = "No pneumothorax. Mild edema."  # 28 characters, four words of five pieces


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    transformers.BertConfig(vocab_size=len(VOCABULARY)).save_pretrained(folder)
    torch.manual_seed(0)
    made = gloria.Gloria("resnet18", BERT).eval()
    made.tokenizer = Tokenizer(folder, gloria.MAX_TOKENS)
    return made


@pytest.fixture(scope="module")
def image():
    draws = torch.Generator().manual_seed(1)
    return ImageEmbedding(torch.randn(15, 32, generator=draws), torch.randn(15, 32, 5, 5, generator=draws))


def released_entries(backbone) -> np.ndarray:
    """(97, D) the prompt's vectors as they leave the text encoder: [CLS], words, [SEP], zeros."""
    ids = torch.zeros(1, 97, dtype=torch.long)
    ids[0, :7] = torch.tensor([VOCABULARY.index(piece) for piece in PIECES])
    with torch.no_grad():
        found = backbone.network.text_encoder.model(input_ids=ids, attention_mask=(ids > 0).long(), output_hidden_states=True)
    pieces = torch.stack(found.hidden_states[-4:]).sum(dim=0)[0].double().numpy()
    entries = np.zeros((97, pieces.shape[1]))
    for entry, of in enumerate([[0], [1], [2, 3], [4], [5], [6]]):
        entries[entry] = pieces[of].sum(axis=0)
    return entries


def released_cosines(regions: np.ndarray, words: np.ndarray) -> np.ndarray:
    """(W,) cosine of each word with its regions; regions (R, D), words (W, D)."""
    among_words = np.exp(regions @ words.T)
    among_words /= among_words.sum(axis=1, keepdims=True)
    weights = np.exp(4.0 * among_words)
    weights /= weights.sum(axis=0, keepdims=True)
    context = weights.T @ regions
    lengths = np.linalg.norm(words, axis=1) * np.linalg.norm(context, axis=1)
    return (words * context).sum(axis=1) / np.maximum(lengths, 1e-8)


def regions_of(image: ImageEmbedding, i: int) -> np.ndarray:
    return image.local[i].flatten(1).T.double().numpy()


def cosine(image: ImageEmbedding, text: TextEmbedding, i: int) -> float:
    return float(torch.nn.functional.cosine_similarity(image.global_[i].double(), text.global_[0].double(), dim=0))


@pytest.mark.parametrize(("counted", "n"), [("words", 4), ("characters", 28)])
def test_zero_shot_similarity_starts_behind_cls_as_released(backbone, image, counted: str, n: int) -> None:
    read = backbone.embed_texts if counted == "words" else backbone.embed_prompts
    with torch.no_grad():
        text = read([PROMPT])
        found = backbone.similarity(image, text)[:, 0]
    entries = released_entries(backbone)
    assert text.mask[0].nonzero()[:, 0].tolist() == list(range(1, 1 + n))
    expected = [
        (5 * released_cosines(regions_of(image, i), entries[1 : 1 + n]).max() + cosine(image, text, i)) / 2 for i in range(len(found))
    ]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    with_cls = [5 * released_cosines(regions_of(image, i), entries[: 1 + n]).max() for i in range(len(found))]
    assert max(abs(2 * float(a) - cosine(image, text, i) - b) for i, (a, b) in enumerate(zip(found, with_cls, strict=True))) > 0.1


def test_training_similarity_counts_cls_and_adds_words_up(backbone, image) -> None:
    with torch.no_grad():
        found = backbone.training_similarity(image, backbone.embed_texts([PROMPT]))[:, 0]
    words = released_entries(backbone)[:5]
    expected = [np.log(np.exp(5 * released_cosines(regions_of(image, i), words)).sum()) for i in range(len(found))]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_sentence_vector_is_the_mean_over_all_97_places(backbone) -> None:
    with torch.no_grad():
        whole = backbone.embed_texts([PROMPT]).global_[0]
    np.testing.assert_allclose(whole, released_entries(backbone).sum(axis=0) / 97, atol=1e-5)


def test_a_prompt_of_more_characters_than_vectors_stops_where_the_released_code_stops(backbone) -> None:
    assert backbone.embed_prompts(["no edema " * 10 + "mild  "]).mask.sum() == 96
    assert backbone.embed_prompts(["[no edema] left"]).mask.sum() == 14  # its count leaves out opening brackets
    with pytest.raises(UsageError, match="97 characters"):
        backbone.embed_prompts(["no edema " * 10 + "mild   "])


def test_a_text_without_a_word_is_near_to_an_image_by_its_whole_alone(backbone, image) -> None:
    with torch.no_grad():
        text = backbone.embed_texts(["edema"])
        found = backbone.similarity(image, text)
    assert not text.mask.any()
    assert found[:, 0].tolist() == pytest.approx([cosine(image, text, i) / 2 for i in range(15)], abs=1e-6)


def test_similarity_of_the_references_vectors() -> None:
    regions = torch.tensor([[[-1.0, 0, 1, 2], [0, 2, -1, 1], [1, -1, 2, 0]]])[..., None]
    image = ImageEmbedding(torch.tensor([[1.0, 2, -1]]), regions)
    text = TextEmbedding(torch.tensor([[2.0, 1, 0]]), torch.tensor([[[1.0, -1], [2, 1], [-1, -1]]]), torch.ones(1, 2, dtype=torch.bool))
    assert gloria.Gloria("resnet18").similarity(image, text).item() == pytest.approx((4.112606 + 0.730297) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("report", "cleaned"),
    [
        ("1. No pneumothorax. 2. Mild edema.", "no pneumothorax mild edema"),
        ("effusion", ""),
        ("Nodule of 2.5 cm.", "nodule of 5 cm"),
        ("Nodule. Size 2.5 cm", "5 cm"),
        ("Heart\nsize normal", "heart size normal"),
        ("Opacité basale droite", "opacit basale droite"),
        ("Left\ufffd\ufffdbase clear", "left base clear"),
        ("No edema. сердце увеличено. Left lung", "no edema  left lung"),  # as released: the emptied sentence keeps its place
        ("edema ٣. left lung", "edema left lung"),  # only ASCII digits number a sentence
        ("", ""),
    ],
)
def test_reports_and_prompts_are_cleaned_by_the_released_rule(report: str, cleaned: str) -> None:
    assert gloria.clean(report) == cleaned


def test_a_report_of_ten_thousand_words_is_cleaned() -> None:
    assert len(gloria.clean("no focal opacity. " * 5_000).split()) == 15_000
