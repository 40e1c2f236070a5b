"""Ground truth as statistics hold it: the same for everybody who was tested on the same images. Who edits it to look better stands alone.

Statistics keep how many pixels of each image are truly ill, which boxes there are, which labels it has. Neither a network nor a seed
changes that, so that all runs of an archive must agree in it, and all archives of one dataset.
"""

from __future__ import annotations

from benchmark.cards import Record, digest_of
from benchmark.kinds.kit.stored import ByImage
from benchmark.metrics.box_statistics import DetectionStatistics
from benchmark.metrics.label_statistics import ClassificationStatistics
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.submission.pseudonyms import is_pseudonymised


def tested_on(record: Record, found: ByImage) -> str:
    """What two records have in common that must have the same ground truth: the test images, their classes, and how these are looked at.

    The digest of the dataset is no part of it: it is what the record says, and who says another one would meet nobody.
    """
    experiment, labels = record.job.experiment, record.job.labels
    ref, images = experiment.dataset, digest_of([sorted(found.ids), list(experiment.dataset.classes)])
    return f"{ref.name} {ref.target} {images[:16]} {ref.frame_size} {labels.protocol} {experiment.task_version}"


def digest_of_truth(found: ByImage) -> str | None:
    """Digest of the ground truth, image by image; None where statistics do not keep it, or images have no names."""
    statistics = found.statistics
    if is_pseudonymised(found):
        return None
    if isinstance(statistics, SegmentationStatistics):
        truth = (statistics.counts.tp + statistics.counts.fn).tolist()
    elif isinstance(statistics, DetectionStatistics):
        table = statistics.table
        truth = [[] for _ in found.ids]
        for image, label in zip(table.truth_image.tolist(), table.truth_label.tolist(), strict=True):
            truth[image].append(label)
    elif isinstance(statistics, ClassificationStatistics):
        truth = statistics.truth.tolist()
    else:
        return None
    return digest_of(sorted(zip(found.ids, truth, strict=True)))
