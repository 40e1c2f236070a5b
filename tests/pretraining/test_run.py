"""From recipe and data to a backbone: found again by its key, resumed to the bit, and read by the harness as any other."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmark import parallel, registry
from benchmark.encoders import naming
from benchmark.errors import CardError, UsageError
from benchmark.pretraining import export, loop, run
from benchmark.training.checkpoint import Checkpoint
from tests.pretraining.small import corpus, recipe

METHODS = ["convirt", "lovt", "gloria", "prior", "g2d", "mgca", "local-region"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("run") / "mimic-cxr")


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    return out, run.pretrain(recipe("lovt"), data, out)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_a_backbone(method, data, tmp_path):
    seen: list[loop.Step] = []
    found = run.pretrain(recipe(method), data, tmp_path, tell=run.Telling(step=lambda step, n: seen.append(step)))
    assert [step.number for step in seen] == [0, 1, 2, 3]
    assert all(set(step.losses) for step in seen)
    assert sorted(found.curve) == [1, 2, 3, 4]
    assert 0 <= found.percentile <= 1
    assert load_file(found.card.parent / "encoder.safetensors")["conv1.weight"].shape == (64, 3, 7, 7)


def test_the_card_says_what_was_seen_and_is_a_backbones_name(made):
    _, found = made
    card = yaml.safe_load(found.card.read_text())
    assert card["pretraining"] == ["mimic-cxr"]
    assert found.key in card["notes"]
    parsed = naming.parse(str(found.card))
    assert parsed.weights == (found.card.parent / "encoder.safetensors").resolve()
    assert parsed.contamination["mimic-cxr"] == "images"


def test_the_file_holds_every_tensor_of_the_encoder_as_trained(made):
    from benchmark.cards import BackboneRef
    from benchmark.encoders.build import build_backbone

    _, found = made
    file = found.card.parent / "encoder.safetensors"
    backbone, account = build_backbone(BackboneRef(family="torchvision", model="resnet18-layer3", digest=None), file, init_seed=None)
    assert not account.missing
    stored = load_file(file)
    assert all(torch.equal(value, stored[name]) for name, value in backbone.network.state_dict().items())
    fresh, _ = build_backbone(BackboneRef(family="torchvision", model="resnet18-layer3", digest=None), None, init_seed=0)
    assert not torch.equal(fresh.network.conv1.weight, stored["conv1.weight"])


def test_the_same_recipe_and_seed_write_the_same_bytes(made, data, tmp_path):
    _, found = made
    again = {run.pretrain(recipe("lovt"), data, tmp_path / str(k)).card.with_name("encoder.safetensors").read_bytes() for k in range(3)}
    assert again == {found.card.with_name("encoder.safetensors").read_bytes()}


def test_what_is_made_is_found_again(made, data):
    out, found = made
    again = run.pretrain(recipe("lovt"), data, out, tell=run.Telling(step=lambda step, n: pytest.fail("trained again")))
    assert again.was_there
    assert (again.key, again.percentile, again.curve) == (found.key, found.percentile, found.curve)


def test_a_finished_backbone_of_another_key_is_not_written_over(made, data):
    out, found = made
    files = {path: path.read_bytes() for path in found.card.parent.iterdir() if path.is_file()}
    with pytest.raises(
        UsageError, match=r"lovt-phantom-0 holds a finished backbone of another recipe.*Choose another --out, or move it away"
    ):
        run.pretrain(recipe("lovt", steps=1), data, out)
    assert {path: path.read_bytes() for path in files} == files
    assert run.pretrain(recipe("lovt"), data, out).was_there


@pytest.mark.parametrize(
    "other",
    [
        lambda card: card.model_copy(update={"objective": {**card.objective, "local": 0.3}}),
        lambda card: card.model_copy(update={"budget": card.budget.model_copy(update={"pairs": 30})}),
        lambda card: card.model_copy(update={"pairs": card.pairs.model_copy(update={"sentences": "all"})}),
        lambda card: card.model_copy(update={"version": 2}),
    ],
    ids=["objective", "budget", "sentences", "version"],
)
def test_what_decides_the_weights_is_in_the_key(other, made, data):
    from benchmark.pretraining import pairs

    card = recipe("lovt")
    both = pairs.load(card.pairs, data, card.image.size, 0)
    assert run.key_of(card, *both, 0, 1, "cpu") == made[1].key
    assert run.key_of(other(card), *both, 0, 1, "cpu") != made[1].key
    assert run.key_of(card, *both, 1, 1, "cpu") != made[1].key
    assert run.key_of(card.model_copy(update={"title": "Another"}), *both, 0, 1, "cpu") == made[1].key


def test_processes_are_in_the_key_where_each_has_running_statistics_of_its_own(made, data, monkeypatch):
    from benchmark.pretraining import pairs

    card = recipe("lovt")
    both = pairs.load(card.pairs, data, card.image.size, 0)
    grouped = card.model_copy(update={"budget": card.budget.model_copy(update={"group": card.budget.batch // 2})})
    keys = {}
    for n in (1, 2, 4):
        monkeypatch.setattr(run.parallel, "size", lambda n=n: n)
        keys[n] = [run.key_of(one, *both, 0, 1, "cpu") for one in (card, grouped)]
    assert {whole for whole, _ in keys.values()} == {made[1].key}
    assert len({parts for _, parts in keys.values()}) == 3


def test_the_files_of_a_text_encoder_are_in_the_key_and_keys_without_one_stay(made, data, tmp_path):
    from benchmark.pretraining import pairs

    card = recipe("lovt")
    both = pairs.load(card.pairs, data, card.image.size, 0)
    for name in ("config.json", "vocab.txt", "model.safetensors", "notes.txt"):
        (tmp_path / name).write_text(name)
    of_hub = card.model_copy(update={"text": card.text.model_copy(update={"hub": str(tmp_path)})})
    keys = [run.key_of(of_hub, *both, 0, 1, "cpu")]
    for name in ("notes.txt", "config.json", "vocab.txt", "model.safetensors"):
        (tmp_path / name).write_text("another")
        keys.append(run.key_of(of_hub, *both, 0, 1, "cpu"))
    assert keys[0] == keys[1]  # notes are nobody's weights
    assert len(set(keys)) == 4
    moved = tmp_path.with_name("moved")
    shutil.copytree(tmp_path, moved)
    elsewhere = card.model_copy(update={"text": card.text.model_copy(update={"hub": str(moved)})})
    assert run.key_of(elsewhere, *both, 0, 1, "cpu") == keys[-1]  # where its files lie decides nothing
    assert run.key_of(card, *both, 0, 1, "cpu") == made[1].key


def test_what_was_held_out_and_what_was_dropped_is_recorded(made, data):
    from benchmark.pretraining import pairs

    card = recipe("lovt")
    train, held_out = pairs.load(card.pairs, data, card.image.size, 0)
    stored = json.loads((made[1].card.parent / export.CURVE).read_text())
    assert stored["ids"] == held_out.ids_digest != train.ids_digest
    assert stored["dropped"] == {"training": train.dropped, "validation": held_out.dropped}
    assert not any(i in json.dumps(stored) for i in held_out.ids)


def test_a_folder_of_an_earlier_version_says_which_pairs_it_is_of(made, data, tmp_path):
    folder = tmp_path / "lovt-phantom-0"
    shutil.copytree(made[1].card.parent, folder)
    stored = json.loads((folder / export.CURVE).read_text())
    for key in ("ids", "dropped"):
        del stored[key]
    (folder / export.CURVE).write_text(json.dumps(stored))
    found = run.pretrain(recipe("lovt"), data, tmp_path)
    assert found.was_there
    assert (found.held_out.ids, found.held_out.dropped) == (made[1].held_out.ids, made[1].held_out.dropped)


def test_methods_say_where_on_the_way_they_train_something_else():
    named = ("lovt", "prior", "g2d", "g2d-global", "mgca")
    assert {name: run.turns_of(registry.recipe(f"{name}-phantom")) for name in named} == {
        "lovt": (),
        "prior": (0.13, 0.33),
        "g2d": (0.13,),
        "g2d-global": (),
        "mgca": (0.02,),
    }
    assert run.turns_of(registry.recipe("prior-published")) == (0.133333, 0.333333)


def test_a_card_of_several_processes_says_what_is_not_that_of_one(monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 2)
    assert "running statistics are the mean over processes" in export._by(recipe("convirt", group=3))
    assert "running statistics" not in export._by(recipe("convirt"))


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_to_the_bits_of_an_undisturbed_one(made, data, tmp_path, monkeypatch):
    def stop(step: loop.Step, n_steps: int) -> None:
        if step.number == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run.pretrain(recipe("lovt"), data, tmp_path, checkpoint_every_s=0, tell=run.Telling(step=stop))
    (stored,) = (tmp_path / "lovt-phantom-0" / run.CHECKPOINTS).iterdir()
    assert stored.stat().st_mode & 0o077 == 0
    seen: list[int] = []
    found = run.pretrain(recipe("lovt"), data, tmp_path, tell=run.Telling(step=lambda step, n: seen.append(step.number)))
    assert seen == [2, 3]
    one, other = (load_file(card.parent / "encoder.safetensors") for card in (made[1].card, found.card))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert found.curve == made[1].curve
    assert not stored.exists()


def test_a_checkpoint_of_another_recipe_is_not_used(data, tmp_path, monkeypatch):
    loaded = []
    load = Checkpoint.load
    monkeypatch.setattr(Checkpoint, "load", lambda self, *rest: loaded.append(load(self, *rest)) or loaded[-1])
    ended = run.pretrain(recipe("convirt", steps=2), data, tmp_path)
    ended.card.unlink()  # as one that was stopped
    run.pretrain(recipe("convirt", steps=3), data, tmp_path)
    assert loaded == [None, None]


def test_an_option_that_the_method_does_not_have_is_named():
    card = recipe("lovt").model_copy(update={"objective": {"prototypes": 3}})
    with pytest.raises(CardError, match=r"Recipe lovt-phantom: objective `prototypes`.*Method lovt has: stride, hidden"):
        run.options_of(card, run.module_of(card))


def test_every_recipe_names_a_method_and_its_options():
    for card in registry.pretraining().values():
        run.options_of(card, run.module_of(card))


def test_nothing_of_a_report_is_left_behind_but_its_words(made):
    out, _ = made
    said = json.dumps([path.name for path in out.rglob("*")])
    assert "report" not in said
    texts = [path.read_text(errors="replace") for path in out.rglob("*") if path.is_file() and path.suffix in (".json", ".yaml")]
    assert not any("zone." in text for text in texts)


def test_a_text_tower_from_a_folder_keeps_what_is_frozen(data, tmp_path):
    from transformers import BertConfig, BertModel

    from benchmark.pretraining import pairs, towers

    card = recipe("convirt")
    train, _ = pairs.load(card.pairs, data, card.image.size, 0)
    folder = tmp_path / "bert"
    towers.tokenizer_of(card.text, train.reports, folder)
    n_words = len((folder / "vocab.txt").read_text().splitlines())
    stored = BertModel(BertConfig(vocab_size=n_words, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32))
    stored.save_pretrained(folder)
    text = card.text.model_copy(update={"hub": str(folder), "frozen_layers": 1, "frozen_embeddings": True})
    assert towers.tokenizer_of(text, train.reports, tmp_path / "unused") == str(folder)
    built, _ = towers.build(card.image, text, str(folder), 0, reads_attention=False)
    trains = {name for name, one in built.text.named_parameters() if one.requires_grad}
    assert not any(name.startswith(("embeddings.", "encoder.layer.0.")) for name in trains)
    assert any(name.startswith("encoder.layer.1.") for name in trains)
    assert all(torch.equal(one, stored.state_dict()[name]) for name, one in built.text.state_dict().items())


# In float16 a first step may be left out, because the scale of the loss is found by trying.
@pytest.mark.parametrize(("precision", "apart"), [("bfloat16", 0.1), ("float16", 0.3)])
def test_half_precision_takes_nearly_the_steps_of_float32(precision, apart, data, tmp_path):
    seen: dict[str, list[float]] = {}
    for name in ("float32", precision):
        tell = run.Telling(step=lambda step, n, name=name: seen.setdefault(name, []).append(step.loss))
        card = recipe("gloria", steps=2, precision=name)
        # Processors round half precision differently: a large first step of Adam would carry that far.
        slow = card.model_copy(update={"optimiser": card.optimiser.model_copy(update={"rate": 1e-4})})
        run.pretrain(slow, data, tmp_path / name, tell=tell)
    assert seen[precision] != seen["float32"]
    assert seen[precision][0] == pytest.approx(seen["float32"][0], rel=0.01)
    assert seen[precision][1] == pytest.approx(seen["float32"][1], rel=apart)


def test_without_a_rise_and_stages_an_encoder_kept_on_the_way_is_that_of_a_smaller_budget(data, tmp_path):
    whole = run.pretrain(recipe("convirt", warm_up=0.0), data, tmp_path / "whole", keeps=(0, 12))
    half = run.pretrain(recipe("convirt", steps=2, warm_up=0.0), data, tmp_path / "half")
    card = export.kept_card(whole.card.parent, 12)
    kept, smaller = (load_file(one.with_name("encoder.safetensors")) for one in (card, half.card))
    assert all(torch.equal(value, smaller[name]) for name, value in kept.items())
    assert sorted(whole.curve) == [0, 1, 2, 3, 4]
    assert whole.curve[2] == half.curve[2]
    assert yaml.safe_load(card.read_text())["name"] == "convirt-phantom-0-at-12"
    assert [path.name for path in whole.card.parent.glob("at-*")] == ["at-12"]
    assert len(whole.held_out.patients) == len(whole.held_out.each[4])


def test_what_was_made_without_an_encoder_to_keep_is_made_again(data, tmp_path):
    first = run.pretrain(recipe("convirt", steps=1), data, tmp_path)
    again = [run.pretrain(recipe("convirt", steps=1), data, tmp_path, keeps=(0,)) for _ in range(2)]
    assert [one.was_there for one in (first, *again)] == [False, False, True]
    assert first.curve[1] == again[0].curve[1]
