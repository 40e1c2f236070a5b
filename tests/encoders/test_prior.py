"""PRIOR's text side: which tokens a sentence and a prompt average (docs/sources.md, PRIOR)."""

from __future__ import annotations

import pytest
import torch
import transformers

from benchmark.encoders import prior
from benchmark.encoders.text import Tokenizer

BERT = transformers.BertConfig(vocab_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "edema", "is", "observed", "no", "."]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    transformers.BertConfig(vocab_size=len(VOCABULARY)).save_pretrained(folder)
    torch.manual_seed(0)
    made = prior.Prior("resnet18", BERT).eval()
    made.tokenizer = Tokenizer(folder, 256)
    return made


def expected(backbone, ids: list[int], averaged: slice) -> torch.Tensor:
    """Prototype vector of the mean of some tokens, from the modules alone; padded to 256 as the released code does."""
    network, padded = backbone.network, torch.zeros(1, 256, dtype=torch.long)
    padded[0, : len(ids)] = torch.tensor(ids)
    states = network.text_encoder.encoder(input_ids=padded, attention_mask=(padded > 0).long()).last_hidden_state[0]
    mean = network.local_text_projection(states[averaged]).mean(dim=0)
    bank = network.sentence_bank.embed.weight
    return (mean @ bank.T / 0.9).softmax(dim=-1) @ bank


@torch.no_grad()
def test_prompt_averages_its_separator_as_released_and_a_report_does_not(backbone) -> None:
    ids = [2, 4, 5, 6, 3]  # [CLS] edema is observed [SEP]
    released, report = backbone.embed_prompts(["Edema is observed"]), backbone.embed_texts(["Edema is observed"])
    torch.testing.assert_close(released.local[0, :, 0], expected(backbone, ids, slice(1, 5)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(report.local[0, :, 0], expected(backbone, ids, slice(1, 4)), atol=1e-5, rtol=1e-5)
    assert (released.global_ - report.global_).abs().max() > 1e-4
    assert released.mask.tolist() == report.mask.tolist() == [[True]]


@torch.no_grad()
def test_a_released_prompt_is_one_sentence_and_does_not_depend_on_the_others(backbone) -> None:
    alone, together = backbone.embed_prompts(["Edema."]), backbone.embed_prompts(["Edema.", "No edema. Is observed."])
    torch.testing.assert_close(together.global_[:1], alone.global_, atol=1e-6, rtol=1e-5)
    assert together.mask.tolist() == [[True], [True]]
    assert backbone.embed_texts(["No edema. Is observed."]).mask.tolist() == [[True, True]]


@torch.no_grad()
def test_a_prompt_that_fills_all_places_loses_its_separator(backbone) -> None:
    found = backbone.embed_prompts(["edema " * 300])
    assert found.n_truncated == 1
    torch.testing.assert_close(found.local[0, :, 0], expected(backbone, [2, *[4] * 254, 3], slice(1, 255)), atol=1e-5, rtol=1e-5)
