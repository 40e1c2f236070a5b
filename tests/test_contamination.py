"""What pretraining saw of each dataset: the table that backbone cards stated one by one, now derived from pairs that datasets declare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import Contamination
from benchmark.contamination import contamination_of
from benchmark.demo import word_backbone

NONE, IMAGES, LABELS, UNKNOWN = Contamination.NONE, Contamination.IMAGES, Contamination.LABELS, Contamination.UNKNOWN

MIMIC = [
    *("g2d", "g2d-unet", "g2d-text", "lovt", "lovt-text", "lovt-convirt-text", "lovt-clip-text", "convirt-benchx", "medklip", "mflag"),
    *("mgca-resnet", "mgca-vit", "mrm", "refers", "biovil", "biovil-t", "kad-224", "kad-512", "carzero", "chexzero", "chexzero-text"),
]
NO_RADIOGRAPHS = [
    *("timm-resnet50-a1", "dinov2-small", "dinov3-small", "efficientnet-lite0", "random-resnet18", "random-resnet50", "random-densenet121"),
    *("imagenet-resnet18", "imagenet-resnet50", "imagenet-densenet121"),
]
# Backbones -> datasets that pretraining saw; of all others it saw nothing. Before this was derived, cards stated these values. What they
# left out, and so counted as unknown: chestx-det, padchest, nih-labels and the three plain cards of all, and what is marked.
SEEN: list[tuple[list[str], dict[str, Contamination]]] = [
    (NO_RADIOGRAPHS, {}),
    (MIMIC, {"mimic-cxr": UNKNOWN, "ms-cxr": IMAGES, "chest-imagenome": IMAGES}),
    (["prior", "prior-text"], {"mimic-cxr": IMAGES, "ms-cxr": IMAGES, "chest-imagenome": IMAGES}),
    (["gloria", "gloria-text"], {"chexpert": UNKNOWN, "chexlocalize": IMAGES}),
    # Before: lovt-baseline stated `none` of CheXpert, on which one of its baselines is trained.
    (
        ["medclip-resnet", "medclip-swin", "lovt-baseline"],
        {"mimic-cxr": UNKNOWN, "ms-cxr": IMAGES, "chest-imagenome": IMAGES, "chexpert": UNKNOWN, "chexlocalize": IMAGES},
    ),
    (
        ["eva-x-tiny", "eva-x-small", "eva-x-base"],
        dict.fromkeys(["rsna", "rsna-labels", "nih-cxr", "siim", "siim-labels", "chexpert", "mimic-cxr", "ms-cxr"], IMAGES)
        # Before unknown, as was open-i (`none` now).
        | dict.fromkeys(["covidx", "chestx-det", "nih-labels", "rsna-plain", "siim-plain"], IMAGES)
        | dict.fromkeys(["chexlocalize", "chest-imagenome", "nih-lt"], IMAGES),
    ),
    (
        ["rad-dino"],
        dict.fromkeys(["rsna", "rsna-labels", "rsna-plain", "siim", "siim-labels", "siim-plain", "covidx", "chestx-det"], IMAGES)
        | dict.fromkeys(["nih-cxr", "nih-labels", "nih-lt", "chexpert", "chexlocalize", "mimic-cxr", "ms-cxr"], IMAGES)
        | dict.fromkeys(["chest-imagenome", "padchest", "padchest-gr"], IMAGES),
    ),
    (
        ["ark-plus"],
        dict.fromkeys(["rsna", "rsna-labels", "vindr-cxr", "chexpert", "mimic-cxr", "nih-lt", "shenzhen"], LABELS)
        | dict.fromkeys(["siim", "siim-labels", "nih-cxr", "ms-cxr", "chest-imagenome", "chexlocalize"], IMAGES)
        | {"tbx11k": UNKNOWN}
        # Before unknown, as were candid-ptx, jsrt and open-i (`none` now).
        | {"covidx": IMAGES, "chestx-det": IMAGES, "siim-plain": IMAGES, "nih-labels": LABELS, "rsna-plain": LABELS},
    ),
    (
        ["foundation-x"],
        dict.fromkeys(["mimic-cxr", "chexpert", "nih-labels", "nih-lt", "rsna", "rsna-labels", "rsna-plain"], LABELS)
        | dict.fromkeys(["vindr-cxr", "shenzhen", "tbx11k", "candid-ptx", "chestx-det", "siim", "siim-labels", "siim-plain"], LABELS)
        | dict.fromkeys(["jsrt", "padchest"], LABELS)
        | dict.fromkeys(["nih-cxr", "padchest-gr", "open-i", "ms-cxr", "chest-imagenome", "chexlocalize", "covidx"], IMAGES),
    ),
]
SAYS_NOTHING = ["local-region-clip", "ptunifier", "biomedclip", "medsiglip", "xray-dino", "chexfound", "medimageinsight"]

RELEASES = [card.name for card in registry.datasets().values() if not card.parts]


@pytest.fixture
def included(tmp_path: Path) -> Iterator[Path]:
    """A user's folder of dataset cards; call `registry.include` on it once its cards are written."""
    (tmp_path / "datasets").mkdir()
    before = list(registry._included)
    yield tmp_path
    registry._included[:] = before
    registry.forget()


def own(folder: Path, *lines: str) -> None:
    """Includes a card of a release `mine` that has these lines."""
    given = registry.content("datasets") / "jsrt.yaml"
    text = given.read_text(encoding="utf-8").replace("name: jsrt", "name: mine").replace("folder: jsrt", "folder: mine")
    kept = [line for line in text.splitlines() if "shares_with" not in line]
    at = next(number for number, line in enumerate(kept) if "folder: mine" in line)
    kept[at:at] = [f"    {line}" for line in lines]
    (folder / "datasets" / "mine.yaml").write_text("\n".join(kept) + "\n", encoding="utf-8")
    registry.include(folder)


def seen(backbone: str) -> dict[str, Contamination]:
    card = registry.backbones()[backbone]
    return contamination_of(card.pretraining, card.contamination)


@pytest.mark.parametrize(("backbone", "saw"), [(name, saw) for names, saw in SEEN for name in names])
def test_derived_values_are_those_that_cards_stated(backbone, saw):
    assert seen(backbone) == dict.fromkeys(RELEASES, NONE) | saw


@pytest.mark.parametrize("backbone", SAYS_NOTHING)
def test_unknown_pretraining_says_nothing_of_any_dataset(backbone):
    assert seen(backbone) == {}


def test_every_backbone_is_in_the_table():
    assert sorted([*(name for names, _ in SEEN for name in names), *SAYS_NOTHING]) == sorted(registry.backbones())


def test_every_shipped_release_says_what_it_shares():
    folders = {card.folder for card in registry.datasets().values() if card.shares_with is not None}
    assert {registry.dataset(name).folder for name in RELEASES} == folders


def test_every_known_set_is_named_by_a_card_that_trains_on_it():
    named = {entry.partition(" ")[0] for card in registry.backbones().values() for entry in card.pretraining or ()}
    assert set(registry.collections()) <= named | {*word_backbone.PRETRAINED_ON}
    assert named - set(registry.collections()) - set(registry.datasets()) == {"pmc-15m"}  # what is among its figures is not known


@pytest.mark.parametrize(
    ("pretraining", "stated", "expected"),
    [
        (["rsna"], {}, {"rsna": UNKNOWN, "rsna-labels": UNKNOWN, "nih-cxr": IMAGES, "nih-labels": IMAGES, "covidx": IMAGES}),
        (["rsna"], {"rsna": LABELS}, {"rsna-labels": LABELS, "nih-cxr": IMAGES, "jsrt": NONE}),
        (["rsna"], {"rsna": NONE}, {"rsna-labels": NONE, "nih-cxr": NONE, "siim": UNKNOWN}),
        # Both took images of NIH ChestX-ray14; whether the same ones, nobody looked.
        (["siim"], {}, {"rsna": UNKNOWN, "chestx-det": UNKNOWN, "padchest": NONE}),
        (["siim", "nih-cxr"], {}, {"rsna": IMAGES, "chestx-det": IMAGES}),
        (["mimic-cxr train", "imagenet-1k"], {}, {"mimic-cxr": UNKNOWN, "ms-cxr": IMAGES, "chexpert": NONE}),
        (["ms-cxr"], {}, {"mimic-cxr": IMAGES}),
        (["chexpert"], {"jsrt": LABELS}, {"jsrt": LABELS, "padchest": NONE}),
    ],
)
def test_what_follows_from_a_set(pretraining, stated, expected):
    found = contamination_of(pretraining, stated)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("pretraining", [None, ["imagenet-1k", "radiographs of our hospital"], ["ImageNet-1k"]])
def test_a_set_that_nobody_knows_leaves_the_author_alone_to_speak(pretraining):
    assert contamination_of(pretraining, {"rsna": IMAGES}) == {"rsna": IMAGES}


@pytest.mark.parametrize(
    ("lines", "medclip", "eva_x", "imagenet"),
    [
        (["shares_with: {chexpert: images}"], IMAGES, IMAGES, NONE),
        (["shares_with: {nih-cxr: source}"], NONE, Contamination.SOURCE, NONE),
        (["shares_with: {chexpert: labels}"], UNKNOWN, IMAGES, NONE),  # as much as was seen of the other
        (["shares_with: {imagenet-1k: unknown}"], UNKNOWN, NONE, UNKNOWN),
        (["shares_with: {}"], NONE, NONE, NONE),
        ([], UNKNOWN, UNKNOWN, UNKNOWN),  # nobody looked
    ],
)
def test_a_new_dataset_says_what_it_shares_and_no_backbone_card_changes(included, lines, medclip, eva_x, imagenet):
    own(included, *lines)
    assert [seen(name)["mine"] for name in ("medclip-resnet", "eva-x-tiny", "imagenet-resnet50")] == [medclip, eva_x, imagenet]
    assert {name: value for name, value in seen("medclip-resnet").items() if name != "mine"} == dict.fromkeys(RELEASES, NONE) | {
        "mimic-cxr": UNKNOWN,
        "ms-cxr": IMAGES,
        "chest-imagenome": IMAGES,
        "chexpert": UNKNOWN,
        "chexlocalize": IMAGES,
    }


def test_a_pair_declared_by_the_newer_release_counts_for_the_older_one(included):
    own(included, "shares_with: {padchest: images}")
    assert contamination_of(["mine"], {})["padchest"] is IMAGES
    assert contamination_of(["mine"], {})["jsrt"] is NONE


def test_a_second_card_of_a_release_says_nothing_again(included):
    own(included)
    path = included / "datasets" / "mine.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("folder: mine", "folder: siim"), encoding="utf-8")
    registry.forget()
    assert contamination_of(["nih-cxr"], {})["mine"] is IMAGES
