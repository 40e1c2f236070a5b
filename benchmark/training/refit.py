"""Trains the model of one job once more and keeps it: records hold scores and predictions, and no weights.

The same job gives the same model, so that what is told of the run holds for the model: `require_same` compares their validation metrics.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from benchmark.cards import EncoderMode, Job, Record
from benchmark.errors import TrainingError
from benchmark.events import Steps
from benchmark.generators import seed_all
from benchmark.registry import plugin
from benchmark.training import fit
from benchmark.training.at_once import learn_at_once
from benchmark.training.determinism import required_device
from benchmark.training.inputs import Inputs
from benchmark.training.loop import train
from benchmark.training.model import Model
from benchmark.training.options import RunOptions
from benchmark.training.shared_work import SharedWork

APART = 1e-3  # of a validation metric: runs side by side agree with one alone within 1e-5, other devices less


def refit(job: Job, inputs: Inputs, learning_rate: float) -> tuple[Model, dict[str, float]]:
    """Trains on the job's own images, without opening the test split's truth.

    Args:
        learning_rate: the fixed or selected rate of the run.

    Returns:
        The model in its best state, and that state's validation metrics.

    Raises:
        LobeError: as of the run itself.
    """
    experiment, finetune = job.experiment, job.experiment.encoder is EncoderMode.FINETUNE
    steps = Steps(fit.ready_to_train([job], inputs, RunOptions(), SharedWork()))
    for _ in steps:
        pass
    ready = steps.result
    model = ready.models[0]
    seed_all(experiment.head_seed)  # as `fit` does before it trains
    if plugin("heads", experiment.head).FACTS.at_once:
        epochs = Steps(learn_at_once(model, ready.data, experiment))
    else:
        epochs = Steps(train(model, ready.data, experiment, learning_rate, experiment.dataset.classes))
    for _ in epochs:
        pass
    model.restore(epochs.result.state, finetune)
    return model, epochs.result.metrics


def require_same(record: Record, metrics: Mapping[str, float]) -> None:
    """Holds a model that was trained again to the stored run.

    Raises:
        TrainingError: their validation metrics differ.
    """
    for name, stored in record.validation.items():
        if abs(metrics.get(name, float("inf")) - stored) > APART:
            found = metrics.get(name, float("nan"))
            raise TrainingError(
                f"The model of record {record.key} trained again has a validation {name} of {found:.4f}, stored is {stored:.4f}: it is "
                "another model than the run's. Was the run computed on another kind of machine, or by another release?"
            )


def rebuilt(job: Job, inputs: Inputs, state: Mapping[str, Tensor]) -> Model:
    """The model of a state that `Model.snapshot` gave, without training.

    Raises:
        CheckpointChanged: the backbone's files are not those of the job.
        RuntimeError: the state is of another model.
    """
    experiment = job.experiment
    device = required_device(experiment.device_type)
    encoder = SharedWork().encoder_of(experiment, inputs, device)
    model = Model(encoder, fit.head_of(experiment, encoder, device), None, device)
    model.restore(dict(state), experiment.encoder is EncoderMode.FINETUNE)
    return model
