"""How many images a job sees, from how many its splits hold: asked when jobs are planned, priced and run, and the same each time.

No torch here: a plan and a forecast need these numbers before any framework is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.cards import Experiment, Recipe

MINIMUM_LIMITED = 8  # a fraction below this is filled up in a limited run


@dataclass(frozen=True)
class SplitSizes:
    """Images of each split: of the dataset's, or of the part of it that a job uses."""

    train: int
    validation: int
    test: int

    @property
    def images(self) -> int:
        return self.train + self.validation + self.test


def n_kept(n: int, share: float) -> int:
    """Images in a share of a list of `n`: LoVT's 1 % and 10 % subsets are its first so many."""
    return round(n * share)


def n_chosen(n: int, share: float, limit: int | None) -> int:
    """Images of a split of `n` that a job uses; a limited run may add up to four positives to fewer than its limit."""
    kept = n_kept(n, share)
    if limit is None:
        return kept
    filled = min(n, limit, MINIMUM_LIMITED)
    return min(max(kept, filled), limit)


def chosen(experiment: Experiment, of: SplitSizes) -> SplitSizes:
    """What a job uses of its dataset's splits: a share of the training list, a share of the validation list, all else.

    A job that trains nothing has no training images, and a search that leaves the test split closed no test images.
    """
    e, subset = experiment, experiment.recipe.validation_subset
    train = n_chosen(of.train, e.fraction, e.limit) if e.words is None else 0
    validation = n_chosen(of.validation, subset, e.limit)
    if e.words is None and e.switches.validation_labels == "at-most-training":
        validation = min(validation, train)
    return SplitSizes(train, validation, n_chosen(of.test, 1.0, e.limit) if e.opens_test else 0)


def batch_size(recipe: Recipe, limit: int | None, n_train: int) -> int:
    """Images of a training batch: the recipe's, in a limited run at most half of its training images, so that an epoch has two."""
    return recipe.batch_size if limit is None else max(min(recipe.batch_size, n_train // 2), 1)


def warmup_steps(recipe: Recipe, limit: int | None, n_train: int) -> int:
    """Steps with a frozen encoder; in a limited run at most one epoch of them."""
    return recipe.warmup_steps if limit is None else min(recipe.warmup_steps, max(n_train // batch_size(recipe, limit, n_train), 1))


def no_images(experiment: Experiment, of: SplitSizes) -> str | None:
    """Which split has nothing for the job, as a sentence; None when all have something.

    Args:
        of: what the job uses of each split. A job that trains nothing may go without validation images.
    """
    needed = {"train": of.train, "validation": of.validation} if experiment.words is None else {}
    needed |= {"test": of.test} if experiment.opens_test else {}
    empty = next((name for name, n in needed.items() if n == 0), None)
    return None if empty is None else f"{experiment.dataset.name}: the {empty} split of rule {experiment.dataset.split!r} has no image."


def too_few(experiment: Experiment, of: SplitSizes) -> str | None:
    """Why no job can train on so few images, as a sentence; None when it can.

    Args:
        of: what the job uses of each split.
    """
    batch = experiment.recipe.batch_size
    if experiment.words is not None or experiment.limit is not None or of.train >= batch:
        return None
    return (
        f"{experiment.dataset.name}: {of.train} training images at {experiment.fraction * 100:g} % are fewer than one batch of {batch}. "
        "Use a larger fraction, or --limit N for a trial run with a smaller batch."
    )


def unknown_release(dataset: str, root: object, release: str) -> str:
    """Why no unlimited job runs on a folder that is not the release of its card, as a sentence."""
    return (
        f"{dataset}: {root} is not the public release ({release}). "
        f"`lobe data verify {dataset}` lists the differences; --limit N allows a trial run."
    )
