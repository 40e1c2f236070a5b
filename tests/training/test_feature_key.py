"""Features may be shared where nothing differs that could change a bit of them, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmark.cards import Normalisation
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.training import data, feature_key


@pytest.fixture
def given(small, tiny):
    """What a key is made of, and a function that makes it with some of it changed."""
    job, place = small.one("rsna-linear-frozen-100", tiny())
    part = data.load_part(job.experiment, place, "validation")
    ref = job.experiment.backbone.model_copy(update={"model": place.backbone_model})

    def encoder(normalisation=job.experiment.dataset.statistics, **options) -> SealedEncoder:
        return SealedEncoder(build_backbone(ref, None, init_seed=None)[0], normalisation, **options)

    usual = encoder()

    def key(*, what="pyramid", encoder=usual, experiment=job.experiment, cache=part.cache, batch=16) -> str:
        return json.dumps(feature_key.recipe(what, encoder, experiment, cache, batch), sort_keys=True)

    return SimpleNamespace(key=key, encoder=encoder, experiment=job.experiment, cache=part.cache)


def test_the_same_encoder_built_again_has_the_same_key(given):
    assert given.key(encoder=given.encoder()) == given.key()


def test_head_labels_rate_and_seed_are_no_part_of_it(given):
    other = given.experiment.model_copy(update={"head": "unet", "fraction": 0.1, "head_seed": 7, "learning_rate": 0.5})
    assert given.key(experiment=other) == given.key()


def test_another_weight_gives_another_key(given):
    changed = given.encoder()
    with torch.no_grad():
        next(changed.backbone.parameters()).view(-1)[0] += 1e-6
    assert given.key(encoder=changed) != given.key()


def test_another_statistic_of_batchnorm_gives_another_key(given):
    changed = given.encoder()
    next(b for name, b in changed.backbone.named_buffers() if name.endswith("running_mean"))[0] += 1e-6
    assert given.key(encoder=changed) != given.key()


@pytest.mark.parametrize("changed", ["what", "normalisation", "memory format", "precision", "batch", "images", "backbone"])
def test_each_thing_that_decides_bits_gives_another_key(given, changed):
    experiment = given.experiment
    other = {
        "what": lambda: given.key(what="embeddings"),
        "normalisation": lambda: given.key(encoder=given.encoder(Normalisation(mean=(0.5,), std=(0.2,)))),
        "memory format": lambda: given.key(encoder=given.encoder(channels_last=True)),
        "precision": lambda: given.key(experiment=experiment.model_copy(update={"precision": "bfloat16"})),
        "batch": lambda: given.key(batch=8),
        "images": lambda: given.key(cache=SimpleNamespace(path=Path("rsna-other"), recipe=given.cache.recipe)),
        "backbone": lambda: given.key(experiment=experiment.model_copy(update={"backbone": _other(experiment.backbone)})),
    }[changed]
    assert other() != given.key()


def _other(backbone):
    return backbone.model_copy(update={"layout": "another"})


@pytest.mark.parametrize("changed", ["threads", "processor", "libraries", "switches", "code", "matmul"])
def test_another_machine_or_library_gives_another_key(given, monkeypatch, changed):
    before = given.key()
    if changed == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 97)
    elif changed == "processor":
        monkeypatch.setattr(feature_key, "_processor", lambda: {"model name": "another"})
    elif changed == "libraries":
        monkeypatch.setattr(feature_key.metadata, "version", lambda package: "97.0")
    elif changed == "switches":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    elif changed == "code":
        monkeypatch.setattr(feature_key, "_code_digest", lambda: "another")
    else:
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert given.key() != before


def test_everything_of_an_experiment_that_is_left_out_cannot_change_features(given):
    """A new field of the experiment has to be looked at: does it decide what the encoder makes of an image?"""
    read = {"backbone", "precision"}
    stands_otherwise = {"dataset", "device_type", "threads", "encoder"}  # as name of the cache and statistics, device, threads, mode
    of_heads_and_loops = {
        "head", "fraction", "recipe", "learning_rate", "role", "head_seed", "order_seed", "profile", "limit", "select", "report", "words",
        "asked", "switches", "task_version", "own_code",
    }  # fmt: skip
    fields = set(type(given.experiment).model_fields)
    assert fields == read | stands_otherwise | of_heads_and_loops, fields ^ (read | stands_otherwise | of_heads_and_loops)


def test_what_is_not_installed_or_not_told_is_left_out(monkeypatch):
    def absent(package: str) -> str:
        raise feature_key.metadata.PackageNotFoundError(package)

    def unreadable(*_, **__) -> str:
        raise PermissionError(13, "Permission denied")

    assert feature_key._versions()
    assert set(feature_key._processor()) > {"machine", "processor"}
    monkeypatch.setattr(feature_key.metadata, "version", absent)
    monkeypatch.setattr(feature_key.Path, "read_text", unreadable)
    assert feature_key._versions() == {}
    assert set(feature_key._processor.__wrapped__()) == {"machine", "processor"}
