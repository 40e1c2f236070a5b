"""The command beside a record names the same experiment, and runs nothing else when it is pasted into a shell."""

from __future__ import annotations

import shlex

import pytest

from benchmark import registry
from benchmark.cards import BackboneCard
from benchmark.report.commands import command_of


def test_each_difference_from_a_plain_run_stands_in_the_command(make):
    job = make.job(run=2, split="patient-disjoint", limit=32, threads=4, protocol="corrected")
    said = command_of(make.record(0.1, job=job), None)
    assert said == (
        "lobe run --backbone torchvision:resnet50 --task rsna-yolov3-frozen-10 --protocol corrected --seeds 3 --split patient-disjoint "
        "--limit 32 --threads 4 --data DATA --out OUT"
    )
    on_gpu = job.model_copy(update={"experiment": job.experiment.model_copy(update={"device_type": "cuda"})})
    assert "--threads 4 --device cuda --data DATA" in command_of(make.record(0.1, job=on_gpu), None)


@pytest.mark.parametrize(
    ("label", "family", "expected"),
    [
        ("resnet50 (IMAGENET1K_V2)", "torchvision", "torchvision:resnet50@IMAGENET1K_V2"),
        ("resnet50 (mine.pth)", "timm", "timm:resnet50@mine.pth"),
        ("mine:build", "python_file", "mine.py:build"),
        ("an entry point", "python_file", "an entry point"),
    ],
)
def test_a_backbone_is_named_as_the_command_line_takes_it(make, label: str, family: str, expected: str):
    record = make.record(0.1, backbone=label, digest="a" * 64)
    backbone = record.job.experiment.backbone.model_copy(update={"family": family})
    job = record.job.model_copy(update={"experiment": record.job.experiment.model_copy(update={"backbone": backbone})})
    words = shlex.split(command_of(record.model_copy(update={"job": job}), None))
    assert words[words.index("--backbone") + 1] == expected


def test_a_card_is_named_with_the_file_that_it_needs(make):
    record = make.record(0.1, digest="a" * 64)
    card = BackboneCard(name="mgca", title="MGCA", family="torchvision", model="resnet50", weights="mgca.ckpt")
    assert "--backbone mgca@mgca.ckpt " in command_of(record, card)
    assert "--backbone mgca " in command_of(record, card.model_copy(update={"weights": "IMAGENET1K_V2"}))


@pytest.mark.parametrize("hostile", ["; rm -rf ~", "$(id)", "`id`", "a' 'b", "x\nrm y", "--out=/etc", "| sh"])
def test_a_hostile_name_stays_one_word(make, hostile: str):
    record = make.record(0.1, backbone=f"mine:{hostile}", digest="a" * 64)
    backbone = record.job.experiment.backbone.model_copy(update={"family": "python_file"})
    job = record.job.model_copy(update={"experiment": record.job.experiment.model_copy(update={"backbone": backbone})})
    command = command_of(record.model_copy(update={"job": job}), None)
    words = shlex.split(command)
    assert "\n" not in command
    assert words[words.index("--backbone") + 1] == f"mine.py:{' '.join(hostile.split())}"
    assert len(words) == 14


def test_the_options_are_those_of_the_command_line(make):
    """Held against the command itself, so that neither is renamed alone."""
    from typer.main import get_command

    from benchmark.cli.app import app
    from benchmark.cli.run import run  # noqa: F401

    known = {name for parameter in get_command(app).commands["run"].params for name in parameter.opts}
    job = make.job(run=2, split="patient-disjoint", limit=32, threads=4)
    words = shlex.split(command_of(make.record(0.1, job=job), None))
    assert {word for word in words if word.startswith("--")} <= known
    assert registry.protocols().keys() >= {"published", "corrected"}
