"""One job from images to record: the same bits again, the same numbers by every path, and no result where none can be trusted."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.cards import VOLATILE_FIELDS, EncoderMode, Record
from benchmark.encoders.python_file import build
from benchmark.errors import CheckpointChanged, ConformanceError, TrainingError
from benchmark.kinds import segmentation
from benchmark.training import evaluate, shared_work
from benchmark.training import fit as fitting
from benchmark.training.features import FeatureBank
from benchmark.training.model import Model
from benchmark.training.options import RunOptions
from benchmark.training.shared_work import SharedWork

LINEAR, DETECTION, FROC, UNET = (
    "rsna-linear-frozen-100",
    "rsna-yolov3-frozen-100",
    "object-cxr-yolov3-frozen-100",
    "covid-rural-unet-frozen-100",
)
FINETUNE = {"encoder": EncoderMode.FINETUNE}


def content(record: Record) -> dict:
    return record.model_dump(exclude=VOLATILE_FIELDS)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_another_process(job, inputs, pipe) -> None:
    from benchmark.training.determinism import prepare_process

    prepare_process(1)
    pipe.send(list(fitting.fit(job, inputs, RunOptions(), 1e-2, SharedWork()))[-1])


# ------------------------------------------------------------------------------------------------------------ determinism


@pytest.mark.parametrize("card", [{}, FINETUNE], ids=["frozen", "finetune"])
def test_the_same_job_twice_gives_the_same_bits(small, tiny, tmp_path: Path, card):
    job, place = small.one(LINEAR, tiny(dropout=0.2), card=card, warmup_steps=1)
    one, other = small.fit(job, place, produced=tmp_path / "one"), small.fit(job, place, produced=tmp_path / "other")
    assert content(one) == content(other)
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_what_ran_before_in_the_process_does_not_change_a_job(small, tiny):
    import torch

    job, place = small.one(LINEAR, tiny(dropout=0.2), card=FINETUNE)
    one = small.fit(job, place)
    torch.rand(1000)
    small.fit(job.model_copy(update={"experiment": job.experiment.model_copy(update={"head_seed": 1})}), place)
    assert content(small.fit(job, place)) == content(one)


def test_another_process_gives_the_same_bits(small, tiny, tmp_path: Path):
    job, place = small.one(LINEAR, tiny())
    here = small.fit(job, place, produced=tmp_path / "here")
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=in_another_process, args=(job, place, sending))
    process.start()
    assert receiving.poll(120)
    there = receiving.recv()
    process.join()
    assert content(here) == content(there.record)
    assert files(tmp_path / "here") == there.files


def test_another_seed_gives_another_head(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    place = places[jobs[0].key]
    one, other = (small.fit(job, place) for job in jobs)
    assert one.curve[0].train_loss != other.curve[0].train_loss


# ---------------------------------------------------------------------------------------------------------------- anchors


def test_a_record_holds_what_its_test_split_gives_away(small, tiny, monkeypatch):
    shared = SharedWork()
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    place = places[jobs[0].key]
    one = small.fit(jobs[0], place, shared=shared)
    share = one.anchors["all positive"]["opacity_dice"]
    assert 0 < share < one.anchors["grid oracle 2 x 2"]["opacity_dice"] < 1  # 64-pixel frames: two cells of 32 pixels a side
    with monkeypatch.context() as patch:
        patch.setattr(segmentation.Segmentation, "anchors", None)  # computed once for a test part and grid
        assert small.fit(jobs[1], place, shared=shared).anchors == one.anchors


def test_only_a_head_whose_one_grid_decides_has_an_oracle(small, tiny):
    backbone = tiny()
    assert list(small.fit(*small.one(UNET, backbone)).anchors) == ["all positive"]
    assert small.fit(*small.one(DETECTION, backbone)).anchors == {}


# ------------------------------------------------------------------------------------------------------- one job, two paths


@pytest.mark.parametrize("task", [LINEAR, UNET])
def test_fast_path_and_plain_path_give_the_same_numbers(small, tiny, task, monkeypatch):
    job, place = small.one(task, tiny(), batch_size=4)
    fast = small.fit(job, place)
    train = fitting.train

    def plain(model, *rest):
        model.bank = None
        return train(model, *rest)

    monkeypatch.setattr(fitting, "train", plain)
    slow = small.fit(job, place)
    assert [e.step for e in fast.curve] == [e.step for e in slow.curve]
    for one, other in zip(fast.curve, slow.curve, strict=True):
        assert np.allclose([one.train_loss, one.validation_loss], [other.train_loss, other.validation_loss], atol=1e-5, rtol=1e-5)
    assert fast.metrics == pytest.approx(slow.metrics, abs=1e-4)


def test_a_detector_of_a_later_run_finds_its_levels_where_a_linear_head_passed(small, tiny, monkeypatch):
    backbone = tiny()
    small.fit(*small.one(LINEAR, backbone))
    with monkeypatch.context() as patch:
        patch.setattr(FeatureBank, "_compute", None)
        found = small.fit(*small.one(DETECTION, backbone))
    assert found.status == "ok"
    monkeypatch.setattr(shared_work, "LATER_SHARE", 0.0)
    other = tiny("other", at_build="torch.manual_seed(11)")
    small.fit(*small.one(LINEAR, other))
    monkeypatch.setattr(FeatureBank, "_compute", None)
    with pytest.raises(TypeError):  # no room was taken for what nobody asked for
        small.fit(*small.one(DETECTION, other))


def test_features_that_do_not_fit_into_memory_give_the_same_bits(small, tiny):
    job, place = small.one(LINEAR, tiny())
    assert content(small.fit(job, place)) == content(small.fit(job, place, RunOptions(feature_budget_bytes=0)))


def test_a_job_is_the_same_alone_or_after_others_of_its_unit(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=3)
    place = places[jobs[0].key]
    shared = SharedWork()
    together = [small.fit(job, place, shared=shared) for job in jobs]
    assert content(together[-1]) == content(small.fit(jobs[-1], place))


# ------------------------------------------------------------------------------------------------------------- the record


def test_record_says_what_was_trained_on_what(small, tiny):
    file = tiny()
    job, place = small.one(LINEAR, file, card=FINETUNE)
    record = small.fit(job, place)
    n_encoder = sum(p.numel() for p in build(f"{file}:build").parameters())
    assert record.parameters["encoder"] == n_encoder
    assert record.parameters["trained"] == record.parameters["head"] + n_encoder
    assert (record.status, record.scale, record.phantom, record.learning_rate) == ("ok", "limited", True, 1e-2)
    assert record.counts["train"]["images"] == 12
    assert {"train", "validation", "test", "train files"} <= set(record.sample_digests)
    assert record.validation == max(record.curve, key=lambda e: e.metrics["opacity_dice"]).metrics
    assert set(record.timings_s) == {"data", "encoder", "features", "training", "test", "storing"}


def test_head_alone_is_trained_on_a_frozen_encoder(small, tiny):
    record = small.fit(*small.one(LINEAR, tiny()))
    assert record.parameters["trained"] == record.parameters["head"] > 0
    assert record.parameters["frozen"] == record.parameters["encoder"] > 0


# ----------------------------------------------------------------------------------------------------- no trustworthy result


def test_a_loss_that_is_not_finite_is_no_result(small, tiny):
    job, place = small.one(LINEAR, tiny(), card=FINETUNE)
    with pytest.raises(TrainingError, match=r"not finite in epoch \d .*learning rate 1e\+30|leave \[0, 1\]"):
        small.fit(job, place, learning_rate=1e30)


def test_an_encoder_that_never_unfroze_is_no_fine_tuning(small, tiny):
    job, place = small.one(LINEAR, tiny(), card=FINETUNE, warmup_steps=500, max_steps=1, batch_size=6)
    with pytest.raises(TrainingError, match="never fine-tuned: 1 steps, all inside the warm-up of 2"):
        small.fit(job, place)


@pytest.mark.parametrize("metric", ["froc", "mAP"])
def test_validation_without_positives_is_no_selection(small, tiny, metric, monkeypatch):
    from benchmark.training import data

    job, place = small.one(DETECTION, tiny(), card={"select": metric, "report": metric}, batch_size=4)
    choose = data.choose

    def without_positives(*arguments):
        chosen = choose(*arguments)
        return chosen | {"validation": [s for s in chosen["validation"] if not s.positive]}

    monkeypatch.setattr(data, "choose", without_positives)
    with pytest.raises(TrainingError, match=f"No epoch can be chosen by {metric}: the validation split has no positive image"):
        small.fit(job, place)


def test_a_frozen_encoder_that_moves_is_no_frozen_encoder(small, tiny):
    # Passes the contract, which shows it two images at a time, and drifts with every batch of training.
    drifting = "len(images) > 2 and self.stages['2'][0].bias.data.add_(1e-3)"
    with pytest.raises(TrainingError, match=r"changed while the head was trained: 1 tensors, first backbone\.stages\.2\.0\.bias"):
        small.fit(*small.one(LINEAR, tiny(at_pyramid=drifting)))


def test_a_backbone_that_breaks_its_contract_is_named_before_training(small, tiny):
    with pytest.raises(ConformanceError, match=r"tiny: pyramid\(\)"):
        small.fit(*small.one(LINEAR, tiny(at_pyramid="self.train()")))


def test_a_backbone_file_edited_since_planning_is_refused(small, tiny):
    file = tiny()
    job, place = small.one(LINEAR, file)
    file.write_text(file.read_text() + "# another line\n")
    with pytest.raises(CheckpointChanged, match="files beside it are not those the job was planned with"):
        small.fit(job, place)


def test_weights_that_a_backbone_file_reads_and_that_changed_since_planning_are_refused(small, tiny, tmp_path: Path):
    seed = tmp_path / "seed.txt"
    seed.write_text("5")
    job, place = small.one(LINEAR, tiny(at_build=f"torch.manual_seed(int(Path({str(seed)!r}).read_text()))"))
    seed.write_text("6")
    with pytest.raises(CheckpointChanged, match="builds other weights than those the job was planned with"):
        small.fit(job, place)


def test_a_backbone_without_the_list_of_files_it_was_planned_with_is_refused(small, tiny):
    job, place = small.one(LINEAR, tiny())
    with pytest.raises(CheckpointChanged, match=r"mine\.py comes without the list of files it was planned with"):
        small.fit(job, replace(place, sources=()))


def test_a_score_that_cannot_be_is_a_bug_and_no_result(small, tiny, monkeypatch):
    job, place = small.one(LINEAR, tiny())
    test = evaluate.test

    def wrong(*given):
        scored = test(*given)
        return replace(scored, metrics={**scored.metrics, "opacity_dice": 1.5})

    monkeypatch.setattr(evaluate, "test", wrong)
    with pytest.raises(TrainingError, match=r"The test gave what cannot be: .*opacity_dice.*This is a bug of the metric"):
        small.fit(job, place)


def test_a_network_needs_images_or_what_was_kept_of_them():
    model = object.__new__(Model)
    with pytest.raises(TypeError, match="needs images, or the features kept of them"):
        Model._network(model, None, None)
