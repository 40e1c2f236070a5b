"""What a pretraining leaves is asked in words as the method itself compares: the same vectors, from a folder that may lie anywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmark import resolve
from benchmark.encoders import dual_encoder
from benchmark.encoders.base import VisionLanguageBackbone
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text import Tokenizer
from benchmark.encoders.text_contract import fault
from benchmark.encoders.words import Words
from benchmark.errors import CheckpointError, ConformanceError, UnknownName, UsageError
from benchmark.objectives.kit.group import Group
from benchmark.pretraining import export, loop, pairs, run
from benchmark.pretraining.views import Views, still
from tests.encoders.test_odd_texts import ENDLESS, LONG, ODD, ORDINARY
from tests.pretraining.small import corpus, recipe

METHODS = ("convirt", "lovt", "lovt-global", "gloria", "prior", "g2d", "mgca", "local-region")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Pairs, put together once for all methods."""
    card = recipe("convirt")
    return pairs.load(card.pairs, corpus(tmp_path_factory.mktemp("dual") / "mimic-cxr"), card.image.size, 0)[1]


@pytest.fixture(scope="module")
def made(held_out, tmp_path_factory):
    """Method -> what a pretraining holds, of random numbers and statistics, its tokenizer, and the folder that it leaves; made once."""
    out, found = tmp_path_factory.mktemp("made"), {}

    def of(method: str) -> tuple[loop.Trained, Tokenizer, Path]:
        if method not in found:
            card, folder = recipe(method), out / method
            folder.mkdir()
            trained, reader = run.untrained(card, held_out, 0, folder / "tokenizer")
            for number, buffer in enumerate(trained.buffers()):
                if buffer.is_floating_point():
                    buffer += 0.1 + 0.01 * (number % 7)
            export.write(folder, card, "of a test", 0, trained, export.HeldOut())
            found[method] = trained, reader, folder
        return found[method]

    return of


def built(folder: Path) -> VisionLanguageBackbone:
    """As a job builds it, from the card alone."""
    found = resolve.backbone(str(folder / "with_text.yaml"), folder / "cache", reads_words=True)
    backbone, account = build_backbone(
        found.named.ref.model_copy(update={"model": found.model}), found.weights, init_seed=None, tokenizer=found.tokenizer
    )
    assert (account.missing, account.unexpected) == ((), ())
    return backbone.eval()


@pytest.mark.parametrize("method", METHODS)
def test_vectors_of_images_and_texts_are_those_that_the_method_compares(method, held_out, made):
    card = recipe(method)
    trained, reader, folder = made(method)
    trained.eval()
    views = Views(still(card.image.augmentation), card.image.size)
    feed = loop.Feed(held_out, Words(reader, held_out.reports), views, "all", torch.device("cpu"))
    index = torch.arange(len(held_out)).numpy()
    frames = torch.from_numpy(feed.views.of(held_out.shown(index, index), index.tolist()))
    backbone = built(folder)
    encoder = SealedEncoder(backbone, trained.towers.image.normalisation)
    with torch.no_grad():
        images, texts = trained.objective.embed(feed.encoded(index, index, trained), Group.alone(len(index)), 1.0)
        seen, read = encoder.embed_images(frames), backbone.embed_texts([" ".join(said) for said in held_out.reports])
    torch.testing.assert_close(seen.global_, images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read.global_, texts, atol=1e-5, rtol=1e-5)
    assert seen.local.shape[:2] == (len(index), images.shape[1])
    assert read.local.shape == (len(index), images.shape[1], read.mask.shape[1])
    assert fault(encoder, frames[:2]) is None
    apart = method in ("lovt", "mgca")
    mask = read.mask[:, None]
    means = torch.where(mask, read.local, 0.0).sum(dim=2) / mask.sum(dim=2).clamp(min=1)
    torch.testing.assert_close(backbone.among_places(read), means if apart else read.global_)
    if apart:
        assert not torch.allclose(means, read.global_, atol=1e-3)


@pytest.mark.parametrize("done", [0.1, 0.2])
def test_an_encoder_kept_on_the_way_is_read_in_its_own_stage(done, held_out, tmp_path):
    """PRIOR's prototypes are trained from the second stage on; before, a text's vectors are its sentences'."""
    card = recipe("prior")
    trained, reader = run.untrained(card, held_out, 0, tmp_path / "tokenizer")
    file = export.keep(tmp_path, card, "of a test", 0, trained, 6, export.HeldOut(), done=done)
    trained.eval()
    feed = loop.Feed(held_out, Words(reader, held_out.reports), Views("none", card.image.size), "all", torch.device("cpu"))
    index = torch.arange(len(held_out)).numpy()
    with torch.no_grad():
        _, now = trained.objective.embed(feed.encoded(index, index, trained), Group.alone(len(index)), done)
        _, later = trained.objective.embed(feed.encoded(index, index, trained), Group.alone(len(index)), 1.0)
        read = built(file.parent).embed_texts([" ".join(said) for said in held_out.reports]).global_
    torch.testing.assert_close(read, now, atol=1e-5, rtol=1e-5)
    assert torch.allclose(now, later, atol=1e-3) == (done > 0.13)


def test_a_whole_pretrainings_file_says_nothing_of_the_way(made):
    assert set(json.loads((made("prior")[2] / "dual_encoder.json").read_text())) == {"version", "recipe", "text"}


@pytest.mark.parametrize("method", METHODS)
def test_an_odd_text_has_a_finite_vector_and_changes_no_other(method, made):
    backbone = built(made(method)[2])
    with torch.no_grad():
        alone, together = backbone.embed_texts([ORDINARY]), backbone.embed_texts([ORDINARY, *ODD.values()])
    assert torch.isfinite(together.global_).all()
    assert all(torch.isfinite(local[:, mask]).all() for local, mask in zip(together.local, together.mask, strict=True))
    assert together.n_truncated == 0
    # Directions: GLoRIA's mean covers the padding, a factor that its cosine does not see.
    one, other = (torch.nn.functional.normalize(found.global_[0], dim=0) for found in (together, alone))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("text", [LONG, ENDLESS], ids=["many sentences", "one sentence"])
def test_a_report_of_ten_thousand_words_is_cut_and_counted(made, text):
    backbone = built(made("lovt")[2])
    with torch.no_grad():
        found = backbone.embed_texts([ORDINARY, text, ORDINARY])
    assert found.n_truncated == 1
    assert torch.isfinite(found.global_).all()


def test_maps_are_those_of_the_image_encoder_alone(made):
    from benchmark.cards import BackboneRef

    folder = made("lovt")[2]
    alone, _ = build_backbone(
        BackboneRef(family="torchvision", model="resnet18-layer3", digest=None), folder / "encoder.safetensors", init_seed=None
    )
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = built(folder)
    with torch.no_grad():
        one, other = whole.pyramid(images), alone.eval().pyramid(images)
    assert all(torch.equal(one[stride], other[stride]) for stride in other)


def test_a_folder_that_moved_is_the_same_backbone_and_another_recipe_is_another(made, tmp_path):
    folder = made("convirt")[2]
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    one, other = (resolve.backbone(str(where / "with_text.yaml"), tmp_path / "cache").named.ref for where in (folder, moved))
    assert one == other
    content = json.loads((moved / "dual_encoder.json").read_text())
    content["recipe"]["pairs"]["sentence_rule"] = "gloria"
    (moved / "dual_encoder.json").write_text(json.dumps(content))
    assert resolve.backbone(str(moved / "with_text.yaml"), tmp_path / "cache2").named.ref != one


def test_nothing_in_the_folder_names_a_place_of_this_machine(made, tmp_path_factory):
    texts = [file.read_text() for file in made("lovt")[2].rglob("*") if file.suffix in (".json", ".yaml", ".txt")]
    assert texts
    assert not any(str(tmp_path_factory.getbasetemp()) in text for text in texts)


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda content: content.pop("text"), UsageError, "'text'"),
        (lambda content: content.update(words=3), UsageError, "'words'"),
        (lambda content: content.update(done=1.5), UsageError, "'done'"),
        (lambda content: content["text"].update(num_attention_heads=3), ConformanceError, "Is it whole"),
        (lambda content: content["text"].update(hidden_size=10**9), ConformanceError, "no network has that"),
        (lambda content: content["text"].update(hidden_act="no such"), ConformanceError, "Is it whole"),
        (lambda content: content["recipe"].update(method="kit"), UnknownName, "kit"),
        (lambda content: content["recipe"]["objective"].update(joint="wide"), ConformanceError, "Is it whole"),
        (lambda content: content["text"].update(hidden_size=32), CheckpointError, "text"),
    ],
    ids=[
        "a part is missing",
        "a key too many",
        "more than all behind it",
        "heads that do not divide",
        "a width of a thousand million",
        "no activation",
        "no method",
        "no number",
        "other sizes",
    ],
)
def test_a_malformed_configuration_ends_in_a_sentence(made, tmp_path, spoil, error, says):
    moved = tmp_path / "spoilt"
    shutil.copytree(made("convirt")[2], moved)
    content = json.loads((moved / "dual_encoder.json").read_text())
    spoil(content)
    (moved / "dual_encoder.json").write_text(json.dumps(content))
    with pytest.raises(error, match=says):
        built(moved)


def test_a_folder_without_its_configuration_and_a_file_without_a_tensor_are_refused(made, tmp_path):
    moved = tmp_path / "spoilt"
    shutil.copytree(made("convirt")[2], moved)
    tensors = load_file(moved / "dual_encoder.safetensors")
    del tensors["objective.model_b.project_global.projection_after.bias"]
    save_file(tensors, moved / "dual_encoder.safetensors")
    with pytest.raises(CheckpointError, match="projection_after"):
        built(moved)
    (moved / "dual_encoder.json").unlink()
    with pytest.raises(UsageError, match=r"there is no dual_encoder\.json"):
        dual_encoder.build(str(moved))
