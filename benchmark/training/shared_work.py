"""What the jobs of one work unit share: the frozen encoder, built once and held to what was planned, and what was computed with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmark.cards import BackboneRef, Experiment, Normalisation
from benchmark.encoders import conformance, python_file, sources
from benchmark.encoders.base import Backbone
from benchmark.encoders.build import build_backbone
from benchmark.encoders.describe import state_digest
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import CheckpointError, ConformanceError, TrainingError
from benchmark.heads.base import Head
from benchmark.kinds.base import Part
from benchmark.training.features import FeatureBank
from benchmark.training.inputs import Inputs


@dataclass
class SharedWork:
    """Cache for the jobs of one work unit: the frozen encoder, its features, and model-free baseline scores.

    Attributes:
        encoder: of the last job, None before the first.
        bank: features of that encoder.
        account: of the encoder's tensors (`Record.account`).
    """

    encoder: SealedEncoder | None = None
    bank: FeatureBank | None = None
    account: dict[str, int] = field(default_factory=dict)
    _key: tuple | None = None
    _state: dict[str, torch.Tensor] = field(default_factory=dict)
    _anchors: dict[tuple, dict[str, dict[str, float]]] = field(default_factory=dict)

    def encoder_of(self, experiment: Experiment, inputs: Inputs, device: torch.device) -> SealedEncoder:
        """The experiment's encoder on the device: the one that is there if it is the same, else a new one, without features.

        Raises:
            CheckpointError: files or weights are not those that the job was planned with.
            ConformanceError: an author's backbone breaks the contract.
        """
        data = experiment.dataset.model_dump_json(exclude={"target", "split", "split_rule"})
        key = (experiment.backbone.model_dump_json(), data, str(device))
        if self.encoder is None or self._key != key:
            ref = experiment.backbone.model_copy(update={"model": inputs.backbone_model})
            authored = experiment.backbone.family == "python_file"
            if authored:
                _require_planned_files(experiment.backbone, inputs)
            backbone, account = build_backbone(ref, inputs.weights, init_seed=ref.init_seed)
            if authored:
                _require_planned(experiment.backbone, backbone, inputs)
            self.encoder = SealedEncoder(backbone, _statistics(experiment, backbone)).to(device)
            if authored:
                # Shipped families keep the contract by their own tests; an author's file is checked before every use.
                conformance.check(self.encoder, experiment.dataset.frame_size)
            self._state = {name: tensor.clone() for name, tensor in self.encoder.state_dict().items()}
            self.account, self.bank, self._key = account.counts, None, key
        return self.encoder

    def require_unchanged(self) -> None:
        """Raises TrainingError when the frozen encoder is no longer, to the bit, what it was when built."""
        assert self.encoder is not None
        now = self.encoder.state_dict()
        moved = [name for name, tensor in self._state.items() if not torch.equal(tensor, now[name])]
        if moved:
            raise TrainingError(
                f"The encoder of a frozen task changed while the head was trained: {len(moved)} tensors, first {moved[0]}. "
                "Does the backbone switch itself to train mode, or update something in pyramid()?"
            )

    def anchors_of(self, experiment: Experiment, head: Head, test: Part) -> dict[str, dict[str, float]]:
        """Scores of the test split that need no model, computed once per split and grid."""
        key = (experiment.dataset.model_dump_json(), test.digest(), head.grid)
        if key not in self._anchors:
            self._anchors[key] = test.trained_kind.anchors(test, experiment.dataset.classes, head)
        return self._anchors[key]


def _statistics(experiment: Experiment, backbone: Backbone) -> Normalisation:
    """Mean and deviation that the job's protocol asks for."""
    if experiment.dataset.normalised_by == "dataset":
        return experiment.dataset.statistics
    own = backbone.spec.normalisation
    if own is None:
        raise ConformanceError(
            f"{backbone.spec.name} states no normalisation of its own, and the protocol asks for it: set `normalisation` in its spec or "
            "card to the mean and deviation it was trained with, or use a protocol that normalises by the dataset's."
        )
    return own


def _require_planned_files(ref: BackboneRef, inputs: Inputs) -> None:
    """The author's files must be those of the job's key: they may have been edited since planning, or be others on this machine."""
    file = Path(inputs.backbone_model.rpartition(":")[0])
    sources.require_unchanged(inputs.sources, file.parent, file.name)
    if ref.model.rpartition(":")[2] != sources.combined(inputs.sources):
        raise CheckpointError(f"{file.name} comes without the list of files it was planned with. Run the same command again.")


def _require_planned(ref: BackboneRef, backbone: Backbone, inputs: Inputs) -> None:
    """The backbone must be made of the files, and have the weights, of the job's key."""
    python_file.require_planned(backbone, inputs.backbone_model, inputs.sources)
    if ref.digest is not None and ref.digest != state_digest(backbone):
        raise CheckpointError(
            f"{Path(inputs.backbone_model).name} builds other weights than those the job was planned with. Run the same command again to "
            "plan with what is there now."
        )
