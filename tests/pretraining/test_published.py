"""Recipes of released code and their corrected forms: each is complete, differs from the other, and trains when it is made small."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from benchmark import registry
from benchmark.cards.pretraining import PretrainingCard
from benchmark.encoders.words import write_vocabulary
from benchmark.errors import EnvironmentProblem, UnknownName
from benchmark.objectives.kit.base import Widths
from benchmark.pretraining import loop, run, towers
from benchmark.pretraining.views import PIPELINES, Views
from tests.pretraining.small import corpus

METHODS = ["convirt", "lovt", "gloria", "prior", "g2d", "mgca"]
RESNET50 = Widths({2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}, 768)
REAL = sorted(name for name, card in registry.pretraining().items() if card.protocol in ("published", "corrected"))
# Layers over both towers, as the reference counts them from torch; PRIOR's and G2D's differ where their code keeps what it never uses.
PARAMETERS = {"lovt-published": 16785408 + 2 * 5249536 + 2362368 + 2 * 2628096 + 788992, "gloria-published": 1573632 + 786432}
PARAMETERS |= {"mgca-published": 4462720 + 2365568 + 2 * 1841280 + 500 * 128, "g2d-published": 9012928 + 145 + 90880 + 278528 + 114688}
SMALLER = {
    "convirt": {"stride": 16, "hidden": 16, "joint": 8},
    "lovt": {"stride": 16, "hidden": 16, "joint": 8},
    "gloria": {"deepest": 16},
    "prior": {
        "stride": 16,
        "side": 3,
        "joint": 16,
        "prototypes": 6,
        "queries": 4,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "decoder_blocks": 4,
    },
    "local_region": {"stride": 16, "joint": 8, "heads": 2},
    "g2d": {"stride": 16, "side": 3, "joint": 8, "begins": 0.5},
    "mgca": {"deepest": 16, "hidden": 16, "joint": 8, "prototypes": 6},
}


def made_small(name: str) -> PretrainingCard:
    """The recipe with a small image and text encoder, one worker's precision and two steps, or four where each stage needs one; all else is
    its own."""
    card = registry.recipe(name)
    image = {"model": "resnet18-layer3", "weights": None, "size": 48, "seen_at": None if card.image.seen_at is None else 52}
    tokens = 40
    text = {"hub": None, "layers": 2, "width": 16, "heads": 2, "hidden": 32, "tokens": tokens, "kept_layers": None}
    text["frozen_layers"] = min(card.text.frozen_layers, 1)
    group = 6 if card.budget.group == card.budget.batch else 3
    budget = {"pairs": 24 if card.budget.stages else 12, "batch": 6, "group": group, "precision": "float32"}
    objective = {**card.objective, **SMALLER[card.method]} | ({"slots": tokens} if "slots" in card.objective else {})
    return card.model_copy(
        update={
            "image": card.image.model_copy(update=image),
            "text": card.text.model_copy(update=text),
            "budget": card.budget.model_copy(update=budget),
            "pairs": card.pairs.model_copy(update={"fewest_sentences": 1}),
            "objective": objective,
        }
    )


def test_every_method_has_a_published_and_a_corrected_recipe_with_its_source():
    assert {f"{method}-{protocol}" for method in METHODS for protocol in ("published", "corrected")} <= set(REAL)
    for name in REAL:
        card = registry.recipe(name)
        assert card.source
        assert card.unverified
        assert card.image.augmentation in PIPELINES


@pytest.mark.parametrize("name", REAL)
def test_a_recipe_builds_its_objective_at_its_own_size_and_has_a_rate_for_every_step(name):
    card = registry.recipe(name)
    module = run.module_of(card)
    with torch.device("meta"):
        objective = module.build(RESNET50, run.options_of(card, module))
    n = sum(p.numel() for p in objective.parameters())
    assert n == PARAMETERS.get(name, n)
    course = loop.Course(200_000, card, 0)
    last = course.n_steps - 1
    assert all(0 <= course.rate(step) <= 1 for step in (0, 1, last // 7, last // 3, last // 2, last))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_published_differs_from_what_is_corrected(method):
    published, corrected = (registry.recipe(f"{method}-{protocol}") for protocol in ("published", "corrected"))
    module = run.module_of(published)
    told = [(card.pairs, card.image, card.text, card.budget, run.options_of(card, module)) for card in (published, corrected)]
    assert told[0] != told[1]
    assert published.pairs.dataset == corrected.pairs.dataset == "mimic-cxr"


@pytest.mark.parametrize("name", [f"{method}-published" for method in METHODS] + ["mgca-corrected", "local-region"])
def test_a_recipe_trains_when_it_is_made_small(name, tmp_path):
    card = made_small(name)
    seen: list[loop.Step] = []
    found = run.pretrain(
        card, corpus(tmp_path / "mimic-cxr"), tmp_path / "out", validations=1, tell=run.Telling(step=lambda step, n: seen.append(step))
    )
    assert len(seen) == card.budget.pairs / 6
    assert 0 <= found.percentile <= 1
    assert found.card.is_file()


def test_what_cannot_be_had_offline_is_said_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    card = registry.recipe("lovt-published")
    with pytest.raises(EnvironmentProblem, match=r"torchvision:resnet50@IMAGENET1K_V1 are not on this machine\.$"):
        run.require_possible(card)
    parts = {"image": card.image.model_copy(update={"weights": None}), "text": card.text.model_copy(update={"hub": "nobody/nothing"})}
    untrained = card.model_copy(update=parts)
    with pytest.raises(EnvironmentProblem, match=r"The text encoder nobody/nothing is not whole on this machine \(config\.json\)"):
        run.require_possible(untrained)
    run.require_possible(registry.recipe("lovt-phantom"))
    with pytest.raises(UnknownName, match="augmentation"):
        run.require_possible(card.model_copy(update={"image": card.image.model_copy(update={"augmentation": "lovd"})}))


def test_a_text_encoder_of_the_hub_has_the_digest_of_its_snapshot_with_and_without_a_network(monkeypatch, tmp_path):
    for name in ("config.json", "vocab.txt", "pytorch_model.bin"):
        (tmp_path / name).write_text(name)
    asked = []
    monkeypatch.setattr(towers, "snapshot_download", lambda name, allow_patterns: asked.append(allow_patterns[-1]) or str(tmp_path))
    assert towers.digest_of("somebody/something") == towers.digest_of(str(tmp_path))
    assert asked == [towers.SAFE, towers.PICKLED]

    def without_network(name, allow_patterns):
        raise FileNotFoundError("no network")

    monkeypatch.setattr(towers, "snapshot_download", without_network)
    monkeypatch.setattr(towers, "try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    assert towers.digest_of("somebody/something") == towers.digest_of(str(tmp_path))
    monkeypatch.setattr(towers, "try_to_load_from_cache", lambda name, file: None)
    with pytest.raises(EnvironmentProblem, match=r"somebody/something cannot be had \(no network\)"):
        towers.digest_of("somebody/something")


@pytest.mark.parametrize("name", ["g2d-published", "g2d-corrected"])
def test_g2ds_first_two_hundred_steps_learn_no_masks(name):
    card = registry.recipe(name)
    course, options = loop.Course(200_000, card, 0), run.options_of(card, run.module_of(card))
    assert course.n_steps == 21485
    assert [step / course.n_steps >= options.begins for step in (199, 200)] == [False, True]


def test_held_out_pairs_are_as_large_as_those_trained_on():
    frames = torch.zeros(2, 64, 64, dtype=torch.uint8).numpy()
    assert Views("cropped", 64).of(frames, [1, 2]).shape == Views("centre", 64).of(frames, [1, 2]).shape == (2, 56, 56)


def test_where_a_recipe_is_from_does_not_decide_its_key():
    card = registry.recipe("lovt-published")
    card = card.model_copy(update={"text": card.text.model_copy(update={"hub": None})})  # which would have to be here

    class Told:
        digest = "x"

    keys = {run.key_of(one, Told, Told, 0, 1, "cpu") for one in (card, card.model_copy(update={"source": "", "unverified": ()}))}
    assert len(keys) == 1


def test_the_first_layers_of_a_text_encoder_are_kept_and_one_without_weights_is_refused(tmp_path):
    write_vocabulary([("clear lungs",)], tmp_path)
    n_words = len((tmp_path / "vocab.txt").read_text().splitlines())
    stored = BertModel(BertConfig(vocab_size=n_words, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32))
    stored.save_pretrained(tmp_path)
    card = made_small("mgca-published")
    text = card.text.model_copy(update={"hub": str(tmp_path), "kept_layers": 1})
    built, _ = towers.build(card.image, text, str(tmp_path), 0, reads_attention=False)
    kept = built.text.state_dict()
    assert len(built.text.encoder.layer) == 1
    assert all(torch.equal(one, kept[name]) for name, one in stored.state_dict().items() if ".layer.1." not in name)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(EnvironmentProblem, match="cannot be had"):
        towers.build(card.image, text, str(tmp_path), 0, reads_attention=False)
