"""What kinds share that train nothing: images and texts go through the backbone once, and a rule turns similarities into scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from benchmark.cards import DatasetCard, Job, Words
from benchmark.errors import UsageError
from benchmark.kinds.base import Kind, ScoredSplit

if TYPE_CHECKING:
    from benchmark.kinds.kit.embedding import UntrainedJob


class UntrainedKind(Kind):
    """A kind that trains nothing. Its task cards name its module as their head, and the module has `FACTS` as a head's has.

    Attributes:
        reads: keys of `words` that this kind reads and that some other such kind does not.
    """

    trains = False
    reads: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def answer(self, given: UntrainedJob) -> ScoredSplit:
        """Scores the test part.

        Raises:
            ConformanceError: the backbone's embeddings do not fit each other.
            DataError: images without what the task reads.
        """

    def question_faults(self, words: Words, dataset: DatasetCard | None) -> list[str]:
        """What this kind cannot do with `words`; sentences that begin behind `words.`, the key first."""
        return []


def words_of(job: Job) -> Words:
    """What the job's task asks. Raises UsageError for the job of a task that is trained."""
    words = job.experiment.words
    if words is None:
        raise UsageError(f"{job.labels.task} has no `words`: its heads are trained, and it asks nothing of images and texts.")
    return words


def truncation_warnings(n_truncated: int, n_texts: int, what: str) -> tuple[str, ...]:
    """A sentence on texts that were cut, where some were."""
    return (f"{n_truncated:,} of {n_texts:,} {what} are longer than the text encoder reads and were cut",) if n_truncated else ()
