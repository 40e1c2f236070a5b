"""Hours of one large GPU that a plan would take, by arithmetic alone: multiplications of its networks over an assumed speed.

For a machine that is not here and that nothing was measured on. What a plan takes where it will run, `forecast` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark import registry
from benchmark.cards import EncoderMode, Job
from benchmark.execute import memory
from benchmark.execute.costs import ENCODER_WORK, sizes_of
from benchmark.execute.work import WorkUnit, features_read
from benchmark.training.sizes import SplitSizes, chosen

DEVICE = "H200"
FLOP_PER_S = 240e12  # assumed of an H200 in float16, additions counted too; never measured
EPOCHS = 0.6  # of the most, where early stopping is taken to end a run
FORWARD, BACKWARD = 2.0, 4.0  # operations for each multiplication of a network
UNKNOWN = dict.fromkeys((4, 8, 16, 32), 256)  # channels that a head is taken to read of an encoder that nobody counted: a ViT's pyramid


@dataclass(frozen=True)
class Hours:
    """
    Attributes:
        expected: where runs end after 60 % of their epochs, and no grid is extended.
        at_most: where every run takes all of its epochs, and every grid is extended.
        guessed: architectures whose work was guessed from their names.
    """

    expected: float
    at_most: float
    guessed: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        guess = f" The work of {', '.join(self.guessed)} is a guess." if self.guessed else ""
        return (
            f"By arithmetic alone: {self.expected:.2g} hours of one {DEVICE}, at most {self.at_most:.2g} "
            f"({FLOP_PER_S / 1e12:g} TFLOP/s assumed, never measured; images decoded before).{guess}"
        )


def hours(todo: Sequence[WorkUnit]) -> Hours:
    """Of the jobs of a plan. Images of a frozen encoder pass once for all jobs that read the same features."""
    expected = at_most = 0.0
    passes: dict[str, float] = {}
    guessed: dict[str, None] = {}
    for unit in todo:
        for job in unit.jobs:
            of = sizes_of(job, unit.inputs)
            e = job.experiment
            if memory.encoder_facts(e) is None:
                guessed[e.backbone.model.rpartition("/")[2].partition(":")[0]] = None
            if (read := features_read(job)) is not None:
                passes[read] = max(passes.get(read, 0.0), of.images * FORWARD * _encoder(job))
            at_most += _trained(job, of, 1.0)
            expected += 0.0 if e.extends_grid else _trained(job, of, EPOCHS)
    once = sum(passes.values())
    return Hours((expected + once) / FLOP_PER_S / 3600, (at_most + once) / FLOP_PER_S / 3600, tuple(guessed))


def _trained(job: Job, of: SplitSizes, share_of_epochs: float) -> float:
    """Operations of a job's own training, validation and test."""
    e = job.experiment
    if e.words is not None:
        return 0.0
    network = _head(job) + (_encoder(job) if e.encoder is EncoderMode.FINETUNE else 0.0)
    used, recipe = chosen(e, of), e.recipe
    epochs = recipe.max_epochs * share_of_epochs
    if recipe.max_steps is not None:
        epochs = min(epochs, recipe.max_steps * recipe.batch_size / max(used.train, 1))
    return network * (epochs * (used.train * (FORWARD + BACKWARD) + used.validation * FORWARD) + used.test * FORWARD)


def _head(job: Job) -> float:
    """Multiplications for one image; 0 where the head does not say."""
    e = job.experiment
    found = memory.head_size(e)
    if found is None and (size := registry.optional("heads", e.head, "size")) is not None:
        found = size(UNKNOWN, len(e.dataset.classes), e.dataset.frame_size)
    return 0.0 if found is None else float(found.multiplications)


def _encoder(job: Job) -> float:
    """Multiplications for one image of the job's frame."""
    facts, name = memory.encoder_facts(job.experiment), job.experiment.backbone.model.lower()
    area = (job.experiment.dataset.frame_size / memory.MEASURED_FRAME) ** 2
    if facts is not None:
        return facts.multiplications * area
    work = ENCODER_WORK.get(max((known for known in ENCODER_WORK if known in name), key=len, default=""), 1.0)
    return memory.ENCODERS["resnet18"].multiplications * work * area
