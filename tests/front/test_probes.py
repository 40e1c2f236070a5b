"""A probe is the stored run's model: trained again it agrees with the record, and it answers in pixels of the given images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmark.errors import TrainingError, UsageError
from benchmark.front import probes
from benchmark.training import refit
from tests.front.conftest import LINEAR, NEIGHBOURS

pytestmark = pytest.mark.long(10)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((90, 120), (70, 50))]


def test_masks_are_of_the_images_own_size_and_the_same_from_the_cache(front, monkeypatch: pytest.MonkeyPatch):
    lobe, files = front
    probe = lobe.probe(files[0], LINEAR, run=2)
    maps = probe(pictures())
    assert [(one.shape, one.dtype) for one in maps] == [((1, 90, 120), np.float32), ((1, 70, 50), np.float32)]
    assert all(one.min() >= 0 and one.max() <= 1 for one in maps)
    assert [mask.dtype for mask in probe.masks(pictures())] == [bool, bool]
    monkeypatch.setattr(probes, "refit", lambda *given: pytest.fail("trained although it is in the cache"))
    for one, two in zip(lobe.probe(files[0], LINEAR, run=2)(pictures()), maps, strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(UsageError, match="predicts masks, so its probe has no probabilities"):
        probe.probabilities(pictures())


def test_it_predicts_what_the_run_stored(front):
    """The run's own test images through the probe give the scores of its statistics."""
    lobe, files = front
    results = lobe.results()
    probe = lobe.probe(files[0], NEIGHBOURS)
    with lobe._unit(files[0], NEIGHBOURS) as (unit, _):
        from benchmark.training.data import load_part

        part = load_part(probe.job.experiment, unit.inputs, "test")
    given = part.images(np.arange(len(part))).numpy()
    assert given.shape[1:] == (64, 64)
    stored = results.per_image(NEIGHBOURS)
    label = next(run.backbone for run in results.runs().itertuples() if run.key == probe.job.key)
    mine = stored[stored["backbone"] == label]
    assert tuple(mine["image"]) == part.ids
    np.testing.assert_allclose(probe(given)[:, 0], mine["score"], atol=1e-5)


def test_another_model_than_the_runs_is_refused(front):
    record = next(record for record in front[0].results().records if record.validation)
    name, value = next(iter(record.validation.items()))
    refit.require_same(record, {**record.validation, name: value + refit.APART / 2})
    with pytest.raises(TrainingError, match="another model than the run's"):
        refit.require_same(record, {**record.validation, name: value + 2 * refit.APART})


def test_a_damaged_file_in_the_cache_is_made_again(front, place_of_front):
    lobe, files = front
    before = lobe.probe(files[1], NEIGHBOURS)(pictures())
    file = place_of_front / "cache" / probes.FOLDER / f"{lobe.probe(files[1], NEIGHBOURS).job.key}.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    np.testing.assert_array_equal(lobe.probe(files[1], NEIGHBOURS)(pictures()), before)


def test_boxes_are_in_pixels_of_the_image_and_end_at_its_edge():
    """A frame of 64 pixels of a 32 x 16 image: the box lies over its right edge."""
    from types import SimpleNamespace

    import torch

    from benchmark.front.pictures import framed
    from benchmark.heads.base import ImageDetections

    given = framed([np.zeros((16, 32), np.uint8)], 64)
    told = ImageDetections(torch.tensor([[32.0, 16.0, 64.0, 16.0]]), torch.tensor([0.5]), torch.tensor([1]))
    data = SimpleNamespace(classes=("a", "b"))
    probe = probes.Probe(SimpleNamespace(experiment=SimpleNamespace(dataset=data)), None)
    found = probe._in_pixels(told, given, 0)
    np.testing.assert_allclose(found.xywh, [[16, 0, 16, 8]])
    assert found.labels == ("b",)


def test_a_task_that_predicts_something_else_is_a_sentence():
    dataset, labels = SimpleNamespace(target="labels-to-masks", classes=("Edema",)), SimpleNamespace(task="a-task")
    probe = probes.Probe(SimpleNamespace(experiment=SimpleNamespace(dataset=dataset), labels=labels), None)
    with pytest.raises(UsageError, match="a-task predicts labels-to-masks, which a probe does not give; it gives labels, masks, boxes"):
        probe(pictures())
