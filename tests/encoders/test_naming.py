"""What a backbone's name means, and what is said about one that means nothing."""

from __future__ import annotations

import sys

import pytest
import yaml

from benchmark import registry
from benchmark.encoders.naming import parse, with_choices
from benchmark.errors import CardError, UnknownName, UsageError


@pytest.mark.parametrize(
    ("name", "family", "model", "weights", "label"),
    [
        ("torchvision:resnet18", "torchvision", "resnet18", None, "resnet18 (random)"),
        ("torchvision:resnet50@DEFAULT", "torchvision", "resnet50", "DEFAULT", "resnet50 (DEFAULT)"),
        ("timm:convnext_atto", "timm", "convnext_atto", None, "convnext_atto (random)"),
        ("timm:resnet50@a1_in1k", "timm", "resnet50", "a1_in1k", "resnet50 (a1_in1k)"),
        ("random-resnet18", "torchvision", "resnet18", None, "ResNet-18 (random)"),
        ("imagenet-resnet50", "torchvision", "resnet50", "IMAGENET1K_V1", "ResNet-50 ImageNet"),
    ],
)
def test_name_gives_family_model_weights_and_label(name, family, model, weights, label):
    named = parse(name)
    assert (named.family, named.model, named.weights, named.label) == (family, model, weights, label)
    assert named.is_random == (weights is None)


def test_layout_follows_the_source():
    assert parse("torchvision:resnet18").layout == "torchvision"
    assert parse("timm:resnet18").layout == "timm"


def test_file_of_weights_is_kept_as_a_path(tmp_path):
    file = tmp_path / "mine.pt"
    file.touch()
    named = parse(f"torchvision:resnet18@{file}")
    assert named.weights == file
    assert named.label == "resnet18 (mine.pt)"


def test_card_with_a_file_takes_layout_and_minimum_from_the_card(tmp_path):
    file = tmp_path / "pretrain.ckpt"
    file.touch()
    named = parse(f"lovt@{file}")
    assert (named.layout, named.weights, named.card.name) == ("lovt", file, "lovt")


def test_python_function_is_named_by_file_and_function(tmp_path):
    file = tmp_path / "mine.py"
    file.touch()
    named = parse(f"{file}:build")
    assert (named.family, named.model, named.label) == ("python_file", f"{file}:build", "mine:build")
    assert not named.is_random


@pytest.mark.parametrize(
    "text", ["name: mine\nfamily: timm\nmodel: resnet10t\n", "backbones:\n- {name: mine, family: timm, model: resnet10t}\n"]
)
def test_card_file_of_ones_own(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    named = parse(str(file))
    assert (named.family, named.model, named.label) == ("timm", "resnet10t", "mine (random)")


@pytest.mark.parametrize(
    "name", ["hub:some/model", "torchvision:", "resnet18@", "", "@x", "torchvision:resnet18@missing.pt", "missing.py:build"]
)
def test_malformed_name_is_a_usage_error(name):
    with pytest.raises(UsageError):
        parse(name)


def test_unknown_card_suggests_the_nearest():
    with pytest.raises(UnknownName, match="imagenet-resnet50"):
        parse("imagenet-resnet5")


def test_card_that_needs_its_file_says_how_to_give_it():
    with pytest.raises(UsageError, match="lovt@path/to/"):
        parse("lovt")


def test_misspelt_key_of_a_card_file_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nfamily: timm\nmodel: resnet10t\nwieghts: x\n")
    with pytest.raises(CardError, match="wieghts"):
        parse(str(file))


@pytest.mark.parametrize("name", sorted(registry.backbones()))
def test_shipped_card_names_a_model_that_can_be_built_and_weights_that_can_be_named(name):
    import timm
    import torch

    from benchmark.encoders.layouts import layout_of

    card = registry.backbones()[name]
    layout_of(card.layout)
    with torch.device("meta" if card.family != "torchvision" else "cpu"):
        strides = registry.plugin("encoders", card.family).build(card.model).spec.strides
    assert strides
    if card.layout == "timm":  # the library's own weights, by their tag
        assert f"{card.model}.{card.weights}" in timm.list_pretrained(f"{card.model}.*")


def test_entry_point_is_a_backbone_by_name_and_its_code_is_not_imported(tmp_path, monkeypatch):
    """An installed distribution, as pip would lay it out."""
    (tmp_path / "their_package.py").write_text("raise RuntimeError('imported')\ndef make(): ...\n")
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lobe.backbones]\ntheirs = their_package:make\nbroken = no_such_package:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CardError, match="broken"):
        parse("theirs")
    (info / "entry_points.txt").write_text("[lobe.backbones]\ntheirs = their_package:make\n")
    named = parse("theirs")
    assert (named.family, named.model, named.label) == ("python_file", f"{tmp_path / 'their_package.py'}:make", "theirs")
    assert "their_package" not in sys.modules
    with pytest.raises(UsageError, match="its own weights"):
        parse("theirs@x.pt")


def test_folder_of_transformers_is_named_by_its_last_part(tmp_path):
    (tmp_path / "tiny-dino").mkdir()
    named = parse(f"hf:{tmp_path / 'tiny-dino'}")
    assert (named.family, named.model, named.label, named.layout) == ("hf", str(tmp_path / "tiny-dino"), "tiny-dino (random)", "hf")


def test_a_card_of_a_python_file_has_no_weights_file_and_names_a_function(tmp_path):
    (tmp_path / "net.py").write_text("def build(): ...\n")
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\nfamily: python_file\nmodel: net.py:build\n")
    assert parse(str(card)).model == f"{tmp_path / 'net.py'}:build"
    (tmp_path / "a.pth").touch()
    with pytest.raises(UsageError, match=r"a backbone in Python loads its own weights; write mine"):
        parse(f"{card}@{tmp_path / 'a.pth'}")
    card.write_text("name: mine\nfamily: python_file\nmodel: net.py\n")
    with pytest.raises(CardError, match=r"Backbone mine: `model` is 'net\.py'; of the family python_file it is file\.py:function"):
        parse(str(card))


@pytest.mark.parametrize("n", [0, 2])
def test_a_card_named_by_its_file_is_the_only_one_in_it(tmp_path, n):
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({"backbones": [{"name": f"b{k}", "family": "timm", "model": "x"} for k in range(n)]})
    )
    with pytest.raises(CardError, match=rf"mine\.yaml holds {n} backbones; a card named by its file holds one"):
        parse(str(tmp_path / "mine.yaml"))


@pytest.fixture
def own_card(tmp_path):
    """Writes a card of one's own and two weight files beside it; returns the folder."""
    card = {"name": "own", "family": "torchvision", "model": "resnet18", "weights": "own.pth", "contamination": {"rsna": "images"}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(card))
    (tmp_path / "library.yaml").write_text(yaml.safe_dump(card | {"weights": "IMAGENET1K_V1"}))
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(card | {"weights": None}))
    for name in ("own.pth", "other.pth"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("card", "file", "says"),
    [
        ("own.yaml", "@{folder}/own.pth", {"rsna": "images"}),
        ("own.yaml", "@{folder}/other.pth", {}),
        ("library.yaml", "", {"rsna": "images"}),
        ("library.yaml", "@{folder}/own.pth", {}),
        ("bare.yaml", "@{folder}/own.pth", {}),
        ("bare.yaml", "", {}),
    ],
)
def test_a_card_speaks_for_its_own_weights_only(own_card, card, file, says):
    assert parse(f"{own_card / card}{file.format(folder=own_card)}").contamination == says


def test_weights_without_a_card_have_nobody_to_speak_for_them(own_card):
    assert parse(f"torchvision:resnet18@{own_card / 'own.pth'}").contamination == {}


def test_container_and_layout_behind_a_file_reach_the_reference_and_the_label(tmp_path):
    file = tmp_path / "a.pth"
    file.touch()
    named = parse(f"torchvision:resnet18@{file}#container=state_dict_ema#layout=prefix:net.")
    assert (named.weights, named.container, named.layout) == (file, "state_dict_ema", "prefix:net.")
    assert named.label == "resnet18 (a.pth, prefix:net., state_dict_ema)"
    assert parse(f"torchvision:resnet18@{file}").container is None


def test_container_of_a_card_is_taken_and_the_names_own_goes_before_it(tmp_path):
    file = tmp_path / "a.pth"
    file.touch()
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\nfamily: torchvision\nmodel: resnet18\nweights: a.pth\ncontainer: teacher\n")
    assert parse(f"{card}@{file}").container == "teacher"
    assert parse(f"{card}@{file}#container=student").container == "student"


def test_choice_without_a_weights_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"container.*names none"):
        parse("torchvision:resnet18#container=teacher")
    with pytest.raises(UsageError, match="--container"):
        with_choices(["torchvision:resnet18"], container="teacher")
    with pytest.raises(UsageError, match="without #"):
        with_choices(["torchvision:resnet18@a.pth"], container="a#b")


def test_options_go_for_every_backbone_with_weights_that_does_not_say_otherwise():
    names = ["torchvision:resnet18", "prior@a.pth", "timm:vit@b.pth#container=student"]
    assert with_choices(names, container="teacher") == [names[0], "prior@a.pth#container=teacher", names[2]]
    assert with_choices(names) == names
