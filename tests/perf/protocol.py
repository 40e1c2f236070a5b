"""From seconds an image, measured at a reduced size, to the hours of the full protocol: arithmetic alone, no measurement.

Image counts are those of the public releases, in the dataset cards. Every run is taken to be as long as patience lets the shortest one be,
or as long as its epochs allow: the truth of a backbone lies between.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark import registry
from benchmark.cards import Record
from benchmark.training import sizes
from tests.perf.bare import BareRun


@dataclass(frozen=True)
class ImageCosts:
    """Seconds an image: `once` for what all runs share (decoding, caching, features), and for training, validation and test of a run.

    `run` is what a run costs however many images it sees: building its encoder and holding it to its contract.
    """

    once: float
    train: float
    validation: float
    test: float
    run: float = 0.0


@dataclass(frozen=True)
class Size:
    """A task of a suite, unabridged."""

    runs: int
    fewest_epochs: int
    most_epochs: int
    train: int
    validation: int
    test: int

    @property
    def images(self) -> int:
        return self.train + self.validation + self.test


def full_size(task: str) -> Size:
    """Runs include one for every learning rate of a grid."""
    card = registry.task(task)
    expected = registry.dataset(card.dataset).splits[card.split].expected
    grid = len(card.recipe.grid)
    return Size(
        runs=card.runs + (grid if grid > 1 else 0),
        fewest_epochs=card.recipe.patience + 1,
        most_epochs=card.recipe.max_epochs,
        train=round(expected["train"].n_images * card.fraction),
        validation=round(expected["validation"].n_images * card.recipe.validation_subset),
        test=expected["test"].n_images,
    )


def run_seconds(size: Size, costs: ImageCosts, epochs: int) -> float:
    """All runs of a task, without what is done once."""
    return size.runs * (costs.run + epochs * (size.train * costs.train + size.validation * costs.validation) + size.test * costs.test)


def task_seconds(size: Size, costs: ImageCosts, epochs: int) -> float:
    """All runs of a task and what is done once for them."""
    return size.images * costs.once + run_seconds(size, costs, epochs)


def of_run(record: Record, floor: BareRun) -> tuple[ImageCosts, ImageCosts]:
    """Costs of a recorded run and of its bare loop, from one run at a reduced size.

    A record knows the seconds of whole epochs: they are split between training and validation as the bare loop's are.
    """
    seen, bare, ours = images_seen(record), floor.seconds, record.timings_s
    share = bare["train"] / (bare["train"] + bare["validation"])
    training = {"train": ours["training"] * share, "validation": ours["training"] * (1 - share), "test": ours["test"] + ours["storing"]}
    images = n_images(record)
    return (
        ImageCosts(
            once=(ours["data"] + ours["features"]) / images,
            run=ours["encoder"],
            **{name: training[name] / count for name, count in seen.items()},
        ),
        ImageCosts(once=bare["features"] / images, **{name: bare[name] / count for name, count in seen.items()}),
    )


def images_seen(record: Record) -> dict[str, int]:
    """Images in the training steps, validations and the test of a run."""
    n = {name: counts["images"] for name, counts in record.counts.items()}
    batch = sizes.batch_size(record.job.experiment.recipe, record.job.experiment.limit, n["train"])
    return {"train": record.steps * batch, "validation": n["validation"] * len(record.curve), "test": n["test"]}


def n_images(record: Record) -> int:
    return sum(counts["images"] for counts in record.counts.values())
