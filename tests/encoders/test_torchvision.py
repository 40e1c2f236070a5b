"""torchvision's backbones give the features torchvision computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from benchmark.cards import IMAGENET, Normalisation
from benchmark.encoders import conformance
from benchmark.encoders import torchvision as family
from benchmark.encoders.library_weights import NotHere, without_asking
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, EnvironmentProblem, UnknownName

CHANNELS = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet34": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
    "resnet101": (64, 256, 512, 1024, 2048),
    "densenet121": (64, 256, 512, 1024, 1024),
    "densenet161": (96, 384, 768, 2112, 2208),
    "densenet169": (64, 256, 512, 1280, 1664),
    "densenet201": (64, 256, 512, 1792, 1920),
}


@pytest.mark.parametrize("model", sorted(CHANNELS))
def test_levels_have_the_promised_shapes(model):
    with torch.device("meta"):
        backbone = family.build(model)
        maps = backbone.pyramid(torch.empty(1, 3, 224, 224))
    assert {s: tuple(f.shape[1:]) for s, f in maps.items()} == {
        2**k: (c, 224 // 2**k, 224 // 2**k) for k, c in enumerate(CHANNELS[model], 1)
    }
    assert backbone.spec.strides == {s: f.shape[1] for s, f in maps.items()}


@pytest.mark.parametrize("model", ["resnet18", "densenet121"])
def test_backbone_keeps_its_contract(model):
    torch.manual_seed(0)
    conformance.check(SealedEncoder(family.build(model), IMAGENET), 64)


@pytest.mark.parametrize(("model", "classifier"), [("resnet18", "fc"), ("densenet121", "classifier"), ("densenet169", "classifier")])
def test_pooled_is_what_torchvision_gives_its_classifier(model, classifier):
    torch.manual_seed(0)
    backbone = family.build(model).eval()
    reference = getattr(torchvision.models, model)(weights=None).eval()
    reference.load_state_dict(backbone.network.state_dict(), strict=False)
    setattr(reference, classifier, torch.nn.Identity())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.pooled(images), reference(images), atol=1e-5, rtol=1e-4)


def test_stages_beyond_the_deepest_wanted_level_are_not_run():
    backbone = family.build("resnet18").eval()
    backbone.network.layer3.register_forward_pre_hook(lambda *_: pytest.fail("layer3 was run"))
    assert set(backbone.pyramid(torch.randn(1, 3, 64, 64), (2, 8))) == {2, 8}


def test_first_level_is_after_the_activation_and_before_pooling():
    backbone = family.build("resnet18").eval()
    images = torch.randn(1, 3, 64, 64)
    network = backbone.network
    assert torch.equal(backbone.pyramid(images, (2,))[2], network.relu(network.bn1(network.conv1(images))))


def test_unknown_architecture_suggests_the_nearest():
    with pytest.raises(UnknownName, match="resnet18"):
        family.build("resnet19")


def test_unknown_weights_suggest_the_nearest():
    with pytest.raises(UnknownName, match="IMAGENET1K_V1"):
        family.library_weights("resnet18", "IMAGENET1K_V9")


def test_library_weights_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    cached = tmp_path / "checkpoints" / url.rsplit("/", 1)[-1]
    cached.write_bytes(b"weights")
    found = family.library_weights("resnet18", "DEFAULT")
    assert found.path == cached
    assert found.pretraining == ("imagenet-1k",)


@pytest.mark.parametrize(
    ("model", "name", "documented", "is_usual"),
    [
        ("resnet18", "IMAGENET1K_V1", IMAGENET, True),
        ("efficientnet_v2_l", "DEFAULT", Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)), False),
        ("vgg16", "IMAGENET1K_FEATURES", Normalisation(mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255)), False),
    ],
)
def test_named_weights_have_the_statistics_that_torchvision_documents_for_them(
    tmp_path, monkeypatch, model: str, name: str, documented: Normalisation, is_usual: bool
):
    """torchvision 0.26 to 0.30, models/efficientnet.py and models/vgg.py."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = torchvision.models.get_model_weights(model)[name].url
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / url.rsplit("/", 1)[-1]).write_bytes(b"weights")
    found = family.library_weights(model, name)
    assert (found.normalisation, found.own) == (documented, None if is_usual else documented)
    with torch.device("meta"):
        assert family.build(model).spec.normalisation == found.as_built


def test_library_weights_that_are_not_there_are_downloaded_into_the_cache(tmp_path, monkeypatch):
    def download(url, path, *, hash_prefix, progress):
        assert hash_prefix in url  # the file that comes is held to it
        Path(path).write_bytes(b"fetched")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    found = family.library_weights("resnet18", "IMAGENET1K_V1")
    assert (found.path.parent, found.path.read_bytes()) == (tmp_path / "hub" / "checkpoints", b"fetched")


def test_a_server_that_may_not_be_asked_is_not(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with without_asking(), pytest.raises(NotHere, match=r"resnet18@DEFAULT are not on this machine"):
        family.library_weights("resnet18", "DEFAULT")


def test_weights_that_cannot_be_had_are_a_sentence_with_the_cure(tmp_path, monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(EnvironmentProblem, match=r"resnet18@DEFAULT.*unreachable.*resnet18@FILE"):
        family.library_weights("resnet18", "DEFAULT")


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "convnext_tiny", "swin_t", "efficientnet_b0", "vgg11"])
def test_other_models_give_the_last_map_of_each_resolution(model):
    with torch.device("meta"):
        backbone = family.build(model).eval()
        maps = backbone.pyramid(torch.empty(1, 3, 224, 224))
    assert {4, 8, 16, 32} <= set(maps)
    assert {s: tuple(f.shape[1:]) for s, f in maps.items()} == {s: (c, 224 // s, 224 // s) for s, c in backbone.spec.strides.items()}


def test_pooled_of_a_sequence_is_what_torchvision_gives_its_classifier():
    torch.manual_seed(0)
    backbone = family.build("mobilenet_v3_small").eval()
    reference = torchvision.models.mobilenet_v3_small(weights=None).eval()
    reference.load_state_dict(backbone.network.state_dict(), strict=False)
    reference.classifier = torch.nn.Identity()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.pooled(images), reference(images), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("model", ["vit_b_16", "regnet_y_400mf"])
def test_model_without_a_sequence_points_to_timm(model):
    with pytest.raises(ConformanceError, match=f"timm:{model}"):
        family.build(model)
