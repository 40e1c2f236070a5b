"""A compiled network trains what the plain one trains; where it would not, or cannot be compiled, the job says so and stops.

In `make test` the network is traced as for compiling, and runs as it was traced; `make verify` compiles it.
"""

from __future__ import annotations

from contextlib import nullcontext
from unittest import mock

import pytest
import torch

from benchmark.cards import EncoderMode
from benchmark.errors import TrainingError
from benchmark.training.compiled import CompiledNetwork
from benchmark.training.options import RunOptions
from tests.perf.alternatives import tracing

LINEAR = "rsna-linear-frozen-100"
FINETUNE = {"encoder": EncoderMode.FINETUNE}


@pytest.fixture
def compiled(small):
    """Jobs with `--compile`, and what went through the compiled network."""

    def fit(job, place):
        with mock.patch.object(CompiledNetwork, "__call__", autospec=True, side_effect=CompiledNetwork.__call__) as calls:
            return small.fit(job, place, RunOptions(compiled=True)), calls.call_count

    return fit


@pytest.fixture
def begins(monkeypatch):
    """Weights and statistics with which every job begins to train."""
    from benchmark.training import fit as fitting

    states, train = [], fitting.train

    def seen(model, *rest):
        states.append(model.snapshot(finetune=True))
        assert all(parameter.grad is None for parameter in model.trained_modules(True).parameters())
        return train(model, *rest)

    monkeypatch.setattr(fitting, "train", seen)
    return states


def close(record, other) -> None:
    assert record.key == other.key
    assert record.selected_epoch == other.selected_epoch
    for one, two in zip(record.curve, other.curve, strict=True):
        assert [one.train_loss, one.validation_loss] == pytest.approx([two.train_loss, two.validation_loss], abs=1e-3)
    assert record.metrics == pytest.approx(other.metrics, abs=5e-3)  # BatchNorm on maps of a few pixels enlarges rounding


@pytest.mark.parametrize("only", [tracing, pytest.param(nullcontext, marks=pytest.mark.slow)], ids=["traced", "compiled"])
def test_a_compiled_job_gives_the_numbers_of_the_plain_one_and_says_so(small, begins, compiled, tiny, only):
    job, place = small.one(LINEAR, tiny(dropout=0.2), card=FINETUNE, warmup_steps=0, batch_size=5, drop_last=False, max_steps=6)
    plain = small.fit(job, place)
    with only():
        record, n_calls = compiled(job, place)
    close(record, plain)
    assert n_calls > 6  # steps, and validation
    assert "run by torch.compile: equal to the plain network up to rounding" in record.warnings
    assert "compiling" in record.timings_s
    assert not any("compile" in warning for warning in plain.warnings)
    begun, begun_compiled = begins  # the step that was compared left nothing behind
    assert begun.keys() == begun_compiled.keys()
    assert all(torch.equal(begun[name], begun_compiled[name]) for name in begun)


def test_only_whole_batches_are_compiled():
    seen = []

    def network(images, _pyramid):
        seen.append(len(images))
        return images * 2

    compiled = CompiledNetwork(network, 4)
    with mock.patch.object(compiled, "compiled", side_effect=network) as fast:
        for n in (4, 3, 4):
            assert torch.equal(compiled(torch.ones(n, 1), None), torch.full((n, 1), 2.0))
    assert (fast.call_count, seen) == (2, [4, 3, 4])


def test_a_network_that_compiles_to_another_one_is_refused(small, compiled, tiny, monkeypatch):
    def wrongly(network, **_options):
        return lambda images, pyramid: network(images.abs(), pyramid)

    monkeypatch.setattr(torch, "compile", wrongly)
    job, place = small.one(LINEAR, tiny(), card=FINETUNE, batch_size=4)
    with pytest.raises(TrainingError, match=r"compiled network is another one: its [a-z ]+ differ by .* Run without --compile"):
        compiled(job, place)


@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled")
def test_a_machine_that_cannot_compile_says_what_is_missing(small, compiled, tiny, monkeypatch):
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    job, place = small.one(LINEAR, tiny(), card=FINETUNE, batch_size=4)
    with pytest.raises(TrainingError, match=r"torch.compile cannot compile this network here: .* needs a C\+\+ compiler"):
        compiled(job, place)


def test_the_command_refuses_to_compile_jobs_of_several_processes(lobe, tiny, corpora, tmp_path):
    run = ["run", "--backbone", f"{tiny()}:build", "--task", "rsna-yolov3-frozen-100", "--data", corpora, "--out", tmp_path / "out"]
    code, _, said = lobe(*run, "--compile", "--workers-per-job", 2)
    assert (code, "use either" in said) == (2, True)


def test_a_network_without_images_or_features_is_an_error():
    network = CompiledNetwork(lambda images, pyramid: pyramid, 4)
    with pytest.raises(TypeError, match="needs images, or the features kept of them"):
        network(None, None)
    assert network(None, {32: torch.zeros(3, 1)}).keys() == {32}  # a last batch of three is run by the plain network
