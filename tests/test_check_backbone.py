"""`lobe check-backbone`: what is wrong with a backbone, what it costs and what it saw, before a job is spent on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark import registry
from benchmark.cards import Normalisation
from benchmark.check_backbone import FRAME, check, features_as_colours, sample_radiograph
from benchmark.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("described_once")


@pytest.fixture(autouse=True)
def few_timed_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long an image takes is of no interest here."""
    monkeypatch.setattr("benchmark.check_backbone.TIMED_IMAGES", 1)


def test_cost_and_levels_are_those_of_the_layers(tiny, tmp_path: Path):
    found = check(f"{tiny()}:build", tmp_path / "cache", tmp_path / "maps.png")
    widths = {2: 4, 4: 8, 8: 8, 16: 8, 32: 16}
    assert [(level.stride, level.channels, level.side) for level in found.levels] == [(s, c, FRAME // s) for s, c in widths.items()]
    incoming = [3, 4, 8, 8, 8]
    assert found.macs == sum(9 * i * c * (FRAME // s) ** 2 for i, (s, c) in zip(incoming, widths.items(), strict=True))
    assert found.parameters == sum(9 * i * c + 3 * c for i, c in zip(incoming, widths.values(), strict=True))
    assert found.feature_bytes == 4 * sum(c * (FRAME // s) ** 2 for s, c in widths.items())
    assert found.fault is None
    assert found.seconds > 0
    assert Image.open(tmp_path / "maps.png").size == (6 * FRAME, FRAME)


def test_random_weights_and_unknown_pretraining_are_said(tiny, tmp_path: Path):
    mine = check(f"{tiny()}:build", tmp_path)
    assert not mine.random
    assert any("normalisation" in warning for warning in mine.warnings)
    assert any("every dataset counts as seen" in warning for warning in mine.warnings)
    library = check("torchvision:mobilenet_v3_small", tmp_path)
    assert library.random
    assert library.label == "mobilenet_v3_small (random)"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("images = images * 2 - 1", "second time"),
        ("return {2 * s: torch.zeros(len(images), w, 7, 7) for s, w in WIDTHS.items()}", "returned strides"),
        ("images = images / 0", "NaN or infinity"),
        ("images = images + torch.rand(1)", "two results|second time"),
    ],
)
def test_broken_contract_is_an_exit_code_and_a_sentence(lobe, tiny, line, reason):
    import re

    code, out, err = lobe("check-backbone", f"{tiny(at_pyramid=line)}:build")
    assert code == 1
    assert "contract broken" in out
    assert re.search(reason, " ".join(err.split()))


def test_json_is_one_document_also_of_a_broken_backbone(lobe, tiny):
    code, out, _ = lobe("check-backbone", f"{tiny(at_pyramid='images = images / 0')}:build", "--json")
    assert code == 1
    assert "NaN or infinity" in json.loads(out)["fault"]


def test_account_of_a_file_is_shown_and_a_wrong_file_is_refused_with_it(lobe, tmp_path: Path):
    from benchmark.encoders.torchvision import build

    torch.manual_seed(7)
    state = build("resnet18").network.state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    code, out, _ = lobe("check-backbone", f"torchvision:resnet18@{tmp_path / 'weights.safetensors'}")
    assert code == 0
    assert "weights loaded" in out
    assert "loaded         100" in out
    save_file({f"net.{name}": tensor for name, tensor in state.items()}, tmp_path / "renamed.safetensors")
    code, _, err = lobe("check-backbone", f"torchvision:resnet18@{tmp_path / 'renamed.safetensors'}")
    assert code == 2
    assert "prefix:net." in err


def test_card_with_other_bytes_than_published_and_unverified_layout_is_noted(tmp_path: Path):
    from benchmark.encoders.torchvision import build

    torch.manual_seed(7)
    state = {f"encoder.encoder.{name}": tensor for name, tensor in build("resnet50").network.state_dict().items()}
    torch.save(state, tmp_path / "biovil.pt")
    found = check(f"biovil@{tmp_path / 'biovil.pt'}", tmp_path / "cache")
    assert found.account["loaded"] == 265  # 318 with BatchNorm's counters
    assert any("md5:02ce6ee" in warning for warning in found.warnings)
    assert any("unverified" in warning for warning in found.warnings)


def test_own_card_is_not_called_unverified_and_says_where_nobody_speaks_for_the_file(tmp_path: Path):
    """A card's contamination goes for its own file; under another name every dataset would count as seen without a word."""
    from benchmark.encoders.torchvision import build

    torch.manual_seed(7)
    for name in ("mine.pth", "other.pth"):
        torch.save(build("mobilenet_v3_small").network.state_dict(), tmp_path / name)
    card = "name: mine\nfamily: torchvision\nmodel: mobilenet_v3_small\nweights: mine.pth\n"
    (tmp_path / "silent.yaml").write_text(card)
    (tmp_path / "mine.yaml").write_text(card + "contamination: {rsna: none, siim: images}\n")
    silent, own, other = (
        " ".join(check(f"{tmp_path / given}", tmp_path / "cache").warnings)
        for given in (f"silent.yaml@{tmp_path / 'mine.pth'}", f"mine.yaml@{tmp_path / 'mine.pth'}", f"mine.yaml@{tmp_path / 'other.pth'}")
    )
    assert "no `contamination`: every dataset counts as seen" in silent
    assert "siim: contamination images" in own
    assert "unverified" not in own
    assert "counts as seen" not in own
    assert "that of mine.pth, and this file is other.pth" in other
    assert "siim: contamination" not in other


def test_score_under_the_other_normalisation(tiny, corpora, small_frames, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("benchmark.plan.smoke_steps", lambda head: 12 if head == "linear" else 3)
    file = tiny()
    file.write_text(file.read_text().replace("embed_dim=WIDTHS[32])", "embed_dim=WIDTHS[32], normalisation=OWN)"))
    file.write_text(
        file.read_text().replace(
            "WIDTHS =", "from benchmark.cards import Normalisation\nOWN = Normalisation(mean=(0.1,), std=(2.0,))\nWIDTHS ="
        )
    )
    found = check(f"{file}:build", tmp_path / "cache", task="covid-rural-unet-frozen-100", data=(str(corpora),), limit=12)
    assert set(found.scores) == {"dataset statistics", "own statistics"}
    assert found.scores["dataset statistics"] != found.scores["own statistics"]


def test_a_task_that_fails_with_one_of_the_rules_is_a_sentence(tiny, corpora, small_frames, tmp_path: Path):
    file = tiny(at_pyramid="assert images.shape[-1] != 64, 'no small images'")
    own = "normalisation={'mean': (0.1,), 'std': (2.0,)}"
    file.write_text(file.read_text().replace("embed_dim=WIDTHS[32])", f"embed_dim=WIDTHS[32], {own})"))
    with pytest.raises(UsageError, match=r"rsna-linear-frozen-100 could not be scored with dataset statistics: .*no small images"):
        check(f"{file}:build", tmp_path / "cache", task="rsna-linear-frozen-100", data=(str(corpora),), limit=8)


def test_a_spec_that_speaks_of_some_datasets_says_how_many_count_as_seen(tiny, tmp_path: Path):
    file = tiny()
    file.write_text(file.read_text().replace("embed_dim=WIDTHS[32])", "embed_dim=WIDTHS[32], contamination={'rsna': 'none'})"))
    releases = [card for card in registry.datasets().values() if not card.parts]
    found = check(f"{file}:build", tmp_path / "cache")
    assert (
        f"Of {len(releases) - 1} datasets it does not say whether they were seen: they count as seen (`spec.contamination`)."
        in found.warnings
    )


def test_backbone_without_a_normalisation_has_no_other_rule_and_is_told_before_anything_is_spent(
    tiny, corpora, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("benchmark.check_backbone._cost", lambda *_: pytest.fail("measured"))
    with pytest.raises(UsageError, match=r"mine:build.*set `normalisation`"):
        check(f"{tiny()}:build", tmp_path / "cache", task="covid-rural-unet-frozen-100", data=(str(corpora),))


def test_statistics_can_be_written_into_the_template_as_its_comment_says(tmp_path: Path):
    text = (Path(__file__).parents[1] / "backbones" / "template.py").read_text()
    assert text.count("normalisation=None") == 1
    (tmp_path / "mine.py").write_text(text.replace("normalisation=None", 'normalisation={"mean": (0.5,), "std": (0.25,)}'))
    found = check(f"{tmp_path / 'mine.py'}:build", tmp_path / "cache")
    assert found.normalisation == Normalisation(mean=(0.5,), std=(0.25,))


def test_other_normalisation_needs_data(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("LOBE_DATA", raising=False)
    with pytest.raises(UsageError, match="--data"):
        check("torchvision:resnet18", tmp_path, task="rsna-linear-frozen-100")
    with pytest.raises(UsageError, match="name one with --task"):
        check("torchvision:resnet18", tmp_path, data=("x",))


def test_other_normalisation_takes_the_data_folder_of_the_environment(tmp_path: Path, monkeypatch):
    """As the help of --data says."""
    monkeypatch.setenv("LOBE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"rsna: no folder {tmp_path / 'rsna'}"):
        check("torchvision:resnet18", tmp_path / "cache", task="rsna-linear-frozen-100")


def test_a_picture_that_cannot_be_written_is_a_sentence_and_any_ending_is_a_png(tiny, tmp_path: Path):
    (tmp_path / "file").touch()
    name = f"{tiny()}:build"
    with pytest.raises(UsageError, match=r"maps\.png cannot be written: .*\. Name another file with --picture"):
        check(name, tmp_path / "cache", picture=tmp_path / "file" / "maps.png")
    check(name, tmp_path / "cache", picture=tmp_path / "maps.what")
    assert (tmp_path / "maps.what").read_bytes().startswith(b"\x89PNG")


def test_colours_are_the_first_components_of_the_places():
    """Two halves that differ in one direction: two colours, black and white in the first channel."""
    features = torch.zeros(5, 4, 4)
    features[2, :, 2:] = 3
    colours = features_as_colours(features)
    assert colours.shape == (4, 4, 3)
    assert set(np.unique(colours[:, :2, 0])) | set(np.unique(colours[:, 2:, 0])) == {0, 255}
    assert torch.equal(sample_radiograph(), sample_radiograph())


def test_new_backbone_writes_the_template_passes_its_check_and_overwrites_nothing(lobe, tmp_path: Path):
    file = tmp_path / "mine.py"
    assert lobe("new", "backbone", file)[0] == 0
    code, out, _ = lobe("check-backbone", f"{file}:build")
    assert (code, "contract kept" in out) == (0, True)
    code, _, err = lobe("new", "backbone", file)
    assert code == 2
    assert "exists already" in err
