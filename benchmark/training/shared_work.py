"""What the jobs of one work unit share: the frozen encoder, built once and held to what was planned, and what was computed with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmark import registry
from benchmark.cards import BackboneRef, Experiment, Job, Normalisation
from benchmark.encoders import configurations, conformance, python_file, sources
from benchmark.encoders.base import Backbone
from benchmark.encoders.build import build_backbone
from benchmark.encoders.describe import state_digest
from benchmark.encoders.naming import without_statistics
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text_contract import require_text_side
from benchmark.errors import CheckpointChanged, ConformanceError, TrainingError
from benchmark.heads.base import Head
from benchmark.heads.networks.pyramid import levels_read
from benchmark.imaging.cache import ImageCache
from benchmark.kinds.base import Part
from benchmark.metrics import spec
from benchmark.own import catalogue
from benchmark.training import feature_folders, feature_key, features
from benchmark.training.embeddings import Embedder
from benchmark.training.feature_store import FeatureSet
from benchmark.training.features import FeatureBank
from benchmark.training.inputs import Inputs
from benchmark.training.options import RunOptions
from benchmark.training.passage import Passage, passage_of_head

LATER_STRIDE = 8  # finer levels take several times as much as all others together
LATER_SHARE = 0.25  # of what is free on the disk
FLOAT_BYTES = 4


@dataclass
class SharedWork:
    """Cache for the jobs of one work unit: the frozen encoder, its features, and model-free baseline scores.

    Attributes:
        heads: of all jobs of the plan that read the features of this encoder; those of other units too.
        encoder: of the last job, None before the first.
        bank: features of that encoder.
        account: of the encoder's tensors (`Record.account`).
    """

    heads: tuple[str, ...] = ()
    encoder: SealedEncoder | None = None
    bank: FeatureBank | None = None
    account: dict[str, int] = field(default_factory=dict)
    _key: tuple | None = None
    _built: dict[str, str] = field(default_factory=dict)
    _anchors: dict[tuple, dict[str, dict[str, float]]] = field(default_factory=dict)
    _passages: dict[tuple, Passage] = field(default_factory=dict)

    def encoder_of(self, experiment: Experiment, inputs: Inputs, device: torch.device) -> SealedEncoder:
        """The experiment's encoder on the device: the one that is there if it is the same, else a new one, without features.

        Raises:
            CheckpointChanged: files or weights are not those that the job was planned with.
            ConformanceError: an author's backbone breaks the contract.
        """
        data = experiment.dataset.model_dump_json(exclude={"target", "split", "split_rule"})
        key = (experiment.backbone.model_dump_json(), data, str(device))
        if self.encoder is None or self._key != key:
            ref = experiment.backbone.model_copy(update={"model": inputs.backbone_model})
            authored = experiment.backbone.family == "python_file"
            own = catalogue.find("encoders", experiment.backbone.family) is not None
            if authored:
                _require_planned_files(experiment.backbone, inputs)
            configurations.require_planned(experiment.backbone, inputs.backbone_model)
            backbone, account = build_backbone(ref, inputs.weights, init_seed=ref.init_seed, tokenizer=inputs.tokenizer)
            if authored:
                _require_planned(experiment.backbone, backbone, inputs)
            self.encoder = SealedEncoder(backbone, _statistics(experiment, backbone)).to(device)
            if authored or own:
                # Shipped families keep the contract by their own tests; an author's file is checked before every use.
                conformance.check(self.encoder, experiment.dataset.frame_size)
            self._built = _tensor_digests(self.encoder)
            self.account, self.bank, self._key = account.counts, None, key
            self._passages.clear()
        return self.encoder

    def bank_of(
        self,
        experiment: Experiment,
        head: Head,
        inputs: Inputs,
        options: RunOptions,
        cache: ImageCache,
        batch_size: int,
        autocast: Callable[[], AbstractContextManager],
    ) -> FeatureBank:
        """Frozen features for a head: those that are there if they hold its levels, else new ones, on the node's disk where that can be.

        Args:
            cache: of the images.
            batch_size: of the job.
        """
        if self.bank is not None and set(head.strides) <= set(self.bank.strides):
            return self.bank
        assert self.encoder is not None
        self.encoder.set_mode("frozen")
        most = options.most_at_once(batch_size)
        batch, folder = features.BATCH if most is None else min(features.BATCH, most), inputs.cache.parent / feature_folders.FOLDER
        what, also = "pyramid", self._levels_of_others() + self._levels_of_later(experiment, inputs, len(cache), folder)
        by_hand = experiment.backbone.family == "python_file" or catalogue.find("encoders", experiment.backbone.family) is not None
        if by_hand and not _levels_come_alone(self.encoder, experiment.dataset.frame_size):
            what, also = f"pyramid {sorted(head.strides)} alone", ()
        stored, problem = _stored(folder, what, self.encoder, experiment, cache, batch)
        budget = options.feature_budget_bytes
        self.bank = FeatureBank(self.encoder, head.strides, budget, autocast, folder=folder, batch=batch, stored=stored, also=also)
        self.bank.notices += problem
        return self.bank

    def embedder_of(
        self, job: Job, inputs: Inputs, cache: ImageCache, most: int, autocast: Callable[[], AbstractContextManager]
    ) -> Embedder:
        """The joint space's embeddings of images, shared with every job that asks the same of them.

        Args:
            most: images that pass at once.

        Raises:
            ConformanceError: the backbone has no text side.
        """
        assert self.encoder is not None
        require_text_side(self.encoder.backbone, job.labels.task)
        self.encoder.set_mode("frozen")
        stored, problem = _stored(inputs.cache.parent / feature_folders.FOLDER, "embeddings", self.encoder, job.experiment, cache, most)
        return Embedder(self.encoder, most, autocast, stored, problem)

    def _levels_of_others(self) -> tuple[int, ...]:
        """Levels that any job of the plan reads of this encoder, fine to coarse."""
        assert self.encoder is not None
        offered = self.encoder.backbone.spec.strides
        return tuple(sorted({stride for name in self.heads for stride in levels_read(registry.head(name), offered)}))

    def _levels_of_later(self, experiment: Experiment, inputs: Inputs, n_images: int, folder: Path) -> tuple[int, ...]:
        """Levels that a head of a later run may read on this dataset: they come with the pass where the disk has room."""
        assert self.encoder is not None
        offered, side = self.encoder.backbone.spec.strides, experiment.dataset.frame_size
        heads = (facts for facts in registry.heads().values() if facts.target in inputs.card.targets)
        wanted = {stride for facts in heads for stride in levels_read(facts, offered) if stride >= LATER_STRIDE}
        size = sum(offered[stride] * (side // stride) ** 2 for stride in wanted) * FLOAT_BYTES * n_images
        return tuple(sorted(wanted)) if size <= LATER_SHARE * feature_folders.free_bytes(folder) else ()

    def require_unchanged(self) -> None:
        """Raises TrainingError when the frozen encoder is no longer, to the bit, what it was when built."""
        assert self.encoder is not None
        now = _tensor_digests(self.encoder)
        moved = [name for name, digest in self._built.items() if now[name] != digest]
        if moved:
            raise TrainingError(
                f"The encoder of a frozen task changed while the head was trained: {len(moved)} tensors, first {moved[0]}. "
                "Does the backbone switch itself to train mode, or update something in pyramid()?"
            )

    def passage_of(self, experiment: Experiment, head: Head) -> Passage:
        """What one image passes through in the encoder and such a head, measured once."""
        assert self.encoder is not None
        key = (experiment.head, experiment.switches.model_dump_json(), len(experiment.dataset.classes))
        if key not in self._passages:
            self._passages[key] = passage_of_head(self.encoder, head, experiment.dataset.frame_size)
        return self._passages[key]

    def anchors_of(self, experiment: Experiment, head: Head, test: Part) -> dict[str, dict[str, float]]:
        """Scores of the test split that need no model, computed once per split and grid."""
        key = (experiment.dataset.model_dump_json(), test.digest(), experiment.switches.scored_in, head.grid, test.own_metrics)
        if key not in self._anchors:
            with spec.only_own(test.own_metrics):
                self._anchors[key] = test.trained_kind.anchors(test, experiment.dataset.classes, head)
        return self._anchors[key]


def _tensor_digests(encoder: SealedEncoder) -> dict[str, str]:
    """SHA-256 of the bytes of each tensor: copies to compare with would take as much memory as the encoder itself."""
    tensors = encoder.state_dict().items()
    return {name: hashlib.sha256(t.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest() for name, t in tensors}


def _statistics(experiment: Experiment, backbone: Backbone) -> Normalisation:
    """Mean and deviation that the job's protocol asks for."""
    if experiment.dataset.normalised_by == "dataset":
        return experiment.dataset.statistics
    own = backbone.spec.normalisation
    if own is None:
        raise ConformanceError(without_statistics(backbone.spec.name))
    return own


def _require_planned_files(ref: BackboneRef, inputs: Inputs) -> None:
    """The author's files must be those of the job's key: they may have been edited since planning, or be others on this machine."""
    file = Path(inputs.backbone_model.rpartition(":")[0])
    sources.require_unchanged(inputs.sources, file.parent, file.name)
    if ref.model.rpartition(":")[2] != sources.combined(inputs.sources):
        raise CheckpointChanged(f"{file.name} comes without the list of files it was planned with. Run the same command again.")


def _require_planned(ref: BackboneRef, backbone: Backbone, inputs: Inputs) -> None:
    """The backbone must be made of the files, and have the weights, of the job's key."""
    python_file.require_planned(backbone, inputs.backbone_model, inputs.sources)
    if ref.digest is not None and ref.digest != state_digest(backbone):
        raise CheckpointChanged(
            f"{Path(inputs.backbone_model).name} builds other weights than those the job was planned with. Run the same command again to "
            "plan with what is there now."
        )


def _stored(
    folder: Path, what: str, encoder: SealedEncoder, experiment: Experiment, cache: ImageCache, batch: int
) -> tuple[FeatureSet | None, list[str]]:
    """The set on the node's disk, or a sentence on why there is none."""
    try:
        return FeatureSet.open(folder, feature_key.recipe(what, encoder, experiment, cache, batch), len(cache)), []
    except OSError as error:
        why = error.strerror or type(error).__name__
        return None, [f"Features are not shared with other processes and later runs: {folder} cannot hold them ({why})."]


def _levels_come_alone(encoder: SealedEncoder, frame_size: int) -> bool:
    """Whether a level has the same bits when it is asked for alone: an author's backbone may take another way to it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, frame_size, frame_size), generator=generator).to(torch.uint8).to(encoder.mean.device)
    together = encoder.pyramid(images)
    return all(torch.equal(encoder.pyramid(images, (stride,))[stride], level) for stride, level in together.items())
