"""Looks at one backbone before anything is spent on it: contract, checkpoint account, cost, warnings, a picture of its features.

Runs in this process what a job would run in a worker. What a run of one task says under either normalisation is asked for by giving data.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry, resolve
from benchmark.cards import IMAGENET, BackboneCard, BackboneSpec, Contamination, Normalisation
from benchmark.contamination import contamination_of
from benchmark.contents import digest_like
from benchmark.encoders import conformance, naming, text_contract
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, UsageError
from benchmark.events import Finished
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import units
from benchmark.files import write_atomically, writing
from benchmark.imaging.prepare import intensity_under
from benchmark.phantom.anatomy import draw_patient
from benchmark.phantom.findings import Finding
from benchmark.phantom.radiograph import compose, develop
from benchmark.phantom.seeds import stream
from benchmark.plan import NamedBackbone, Settings, plan

FRAME = 224
SEED = 12345  # of a random backbone, as in a first run
TIMED_IMAGES = 4


@dataclass(frozen=True)
class LevelShape:
    """A feature level at the frame: stride, channels, cells per side."""

    stride: int
    channels: int
    side: int


@dataclass(frozen=True)
class Checked:
    """
    Attributes:
        fault: the broken promise, in a sentence; None when the contract is kept.
        account: number of tensors by fate; empty where no file was loaded.
        macs: multiply-adds of one image through all levels.
        seconds: of one image on this machine, one thread, float32, best of three batches; None where the contract is broken.
        peak_bytes: device memory of one image, on a GPU; None on a CPU.
        feature_bytes: what one image's features take when a frozen task keeps them, all levels, float32.
        input_size, in_channels: what it is made for: side of the image in pixels, channels of its first layer.
        normalisation: the backbone's own; None = refused by the leaderboard's protocol.
        warnings: pretraining data that meets a benchmark's, unknown origins, a digest that is not the card's.
        scores: metric of one task under the dataset's statistics and under the backbone's own; empty unless asked for.
    """

    label: str
    random: bool
    fault: str | None
    levels: tuple[LevelShape, ...]
    parameters: int
    macs: int
    seconds: float | None
    peak_bytes: int | None
    feature_bytes: int
    account: dict[str, int]
    account_table: str
    input_size: int
    in_channels: int
    normalisation: Normalisation | None
    warnings: tuple[str, ...]
    picture: Path | None = None
    scores: dict[str, float] = field(default_factory=dict)


def check(
    name: str, cache: Path | None = None, picture: Path | None = None, task: str | None = None, data: tuple[str, ...] = (), limit: int = 64
) -> Checked:
    """Everything there is to see of a backbone.

    Args:
        name: as for `lobe run --backbone`.
        picture: PNG of the feature maps to write.
        task: also score this task twice, smoke profile, `limit` images a split.
        data: where its dataset lies, as for `lobe run --data`; empty takes $LOBE_DATA.

    Raises:
        LobeError: it cannot be resolved, built or loaded; says which, with the account.
    """
    if data and not task:
        raise UsageError("--data is for the score of a task: name one with --task, or leave --data out.")
    if task:
        resolve.data_roots(data)  # told before anything is built
    cache = resolve.cache_folder(cache)
    resolved, parsed = resolve.backbone(name, cache), naming.parse(name, cache)
    ref = resolved.named.self_normalised.model_copy(update={"model": resolved.model})
    backbone, account = build_backbone(ref, resolved.weights, init_seed=SEED if ref.digest is None else None, tokenizer=resolved.tokenizer)
    own = backbone.spec.normalisation
    if task and own is None:
        raise UsageError(
            f"{resolved.named.label} states no normalisation of its own, so there is no other rule to compare with: set `normalisation` in "
            "its spec or card to the mean and deviation it was trained with."
        )
    encoder = SealedEncoder(backbone, own or IMAGENET)
    try:
        conformance.check(encoder, FRAME)
        fault, about_words = None, text_contract.fault(encoder, sample_radiograph())
    except ConformanceError as error:
        fault, about_words = str(error), None
    checked = Checked(
        label=resolved.named.label,
        random=parsed.is_random or ref.digest is None,
        fault=fault,
        levels=(),
        parameters=sum(p.numel() for p in backbone.parameters()),
        macs=0,
        seconds=None,
        peak_bytes=None,
        feature_bytes=0,
        account=account.counts if account.loaded else {},
        account_table=account.table() if account.loaded else "",
        input_size=backbone.spec.input_size,
        in_channels=backbone.spec.in_channels,
        normalisation=own,
        warnings=_warnings(parsed, backbone.spec, resolved.named.contamination, own, resolved.weights)
        + (() if about_words is None else (about_words,)),
    )
    if fault is not None:
        return checked
    radiograph = sample_radiograph()
    maps, macs, seconds, peak = _cost(encoder, radiograph)
    if picture is not None:
        _draw(maps, radiograph, picture)
    return replace(
        checked,
        levels=tuple(LevelShape(s, m.shape[1], m.shape[-1]) for s, m in sorted(maps.items())),
        macs=macs,
        seconds=seconds,
        peak_bytes=peak,
        feature_bytes=sum(m[0].numel() * m.element_size() for m in maps.values()),
        picture=picture,
        scores=_both_scores(resolved, own, task, data, cache, limit) if task and own is not None else {},
    )


def sample_radiograph(size: int = FRAME) -> Tensor:
    """(1, size, size) uint8: a generated radiograph, always the same."""

    def nothing(_scene) -> list[Finding]:
        return []

    rng = stream("check-backbone", 0)
    return torch.from_numpy(develop(compose(draw_patient("check-backbone"), rng, nothing), size, size, rng))[None]


def features_as_colours(features: Tensor) -> np.ndarray:
    """(h, w, 3) uint8 of a (C, h, w) map: its first three principal components over places, each stretched to 0..255."""
    places = features.detach().double().flatten(1).T
    centred = places - places.mean(dim=0)
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    components = left[:, :3] * singular[:3]
    components = torch.nn.functional.pad(components, (0, 3 - components.shape[1]))
    low, high = components.amin(dim=0), components.amax(dim=0)
    stretched = (components - low) / (high - low).clamp(min=1e-12)
    return (255 * stretched).round().to(torch.uint8).unflatten(0, features.shape[1:]).numpy()


def _cost(encoder: SealedEncoder, image: Tensor) -> tuple[dict[int, Tensor], int, float, int | None]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.to(device)
    image = image.to(device)
    counter = FlopCounterMode(display=False)
    with counter:
        maps = encoder.pyramid(image)
    peak = None
    if device.type == "cuda":  # pragma: no cover: needs CUDA; `make gpu` runs it
        torch.cuda.reset_peak_memory_stats()
    times = []
    batch = image.expand(TIMED_IMAGES, -1, -1)
    for _ in range(3):
        started = time.perf_counter()
        encoder.pyramid(batch)
        if device.type == "cuda":  # pragma: no cover: needs CUDA; `make gpu` runs it
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / TIMED_IMAGES)
    if device.type == "cuda":  # pragma: no cover: needs CUDA; `make gpu` runs it
        peak = torch.cuda.max_memory_allocated() // TIMED_IMAGES
    return {s: m.cpu() for s, m in maps.items()}, counter.get_total_flops() // 2, min(times), peak


def _warnings(
    parsed: naming.ParsedName,
    spec: BackboneSpec,
    contamination: Mapping[str, Contamination],
    own: Normalisation | None,
    weights: Path | None,
) -> tuple[str, ...]:
    found = []
    if own is None:
        found.append("It states no normalisation of its own: the leaderboard's protocol refuses it.")
    card = parsed.card
    sets = spec.pretraining if card is None or card.pretraining is None else card.pretraining
    for dataset, kind in sorted(contamination.items()):
        if kind is not Contamination.NONE:
            found.append(f"{dataset}: contamination {kind.value} (pretraining: {', '.join(sets or ('unknown',))}).")
    if card is not None:
        if weights is not None and not parsed.contamination:
            found.append(_nobody_speaks(card, weights))
        if card.status != "verified" and card.name in registry.backbones():  # an author's own card is of the author's own file
            found.append(
                f"The card is {card.status}: {card.notes or 'its layout comes from documents, no published file was loaded here'}."
            )
        if card.digest and weights is not None and digest_like(card.digest, weights) != card.digest:
            found.append(f"The file is not the published one the card knows ({card.digest}): converted, re-saved, or another release?")
    elif contamination:
        unsaid = sum(not one.parts and one.name not in contamination for one in registry.datasets().values())
        if unsaid:
            found.append(f"Of {unsaid} datasets it does not say whether they were seen: they count as seen (`spec.contamination`).")
    elif spec.pretraining is None:
        found.append("It does not say what it was pre-trained on: every dataset counts as seen, images included.")
    else:
        found.append(
            f"LOBE does not know all of its pretraining sets ({', '.join(spec.pretraining)}): every dataset counts as seen. "
            "Say what was seen in `spec.contamination`, such as {'rsna': 'none', 'nih-cxr': 'images'}, or in a card."
        )
    return tuple(found)


def _nobody_speaks(card: BackboneCard, weights: Path) -> str:
    """Why every dataset counts as seen although there is a card."""
    if not contamination_of(card.pretraining, card.contamination):
        return "The card names no known pretraining sets and has no `contamination`: every dataset counts as seen, images included."
    return (
        f"The card's pretraining is that of {card.weights}, and this file is {weights.name}: every dataset counts as seen, images "
        "included. Give the file the published name if that is what it is."
    )


def _both_scores(
    resolved: resolve.ResolvedBackbone, own: Normalisation, task: str, data: tuple[str, ...], cache: Path, limit: int
) -> dict[str, float]:
    """The task's metric with the dataset's statistics and with the backbone's own; one run each, smoke profile."""
    (card,), protocol = resolve.tasks([task], None), registry.protocol("published")
    about = registry.dataset(card.dataset)
    root = resolve.dataset_root(about, resolve.data_roots(data))
    dataset = resolve.dataset(about, root, protocol, trains=card.words is None, limit=limit, cache=cache)
    scores = {}
    rules = {"dataset statistics": {}, "own statistics": {"statistics": own, "intensity": intensity_under(about, "never")}}
    for rule, changes in rules.items():
        ref = dataset.ref.model_copy(update=changes)
        named = NamedBackbone(f"{resolved.named.label} ({rule})", resolved.named.ref)
        jobs = plan([card], [named], {card.dataset: ref}, protocol, Settings(runs=1, limit=limit, profile="smoke"))
        inputs = resolve.inputs(resolved, dataset, cache)
        events = InlineExecutor().run(Schedule(units(jobs, {job.key: inputs for job in jobs})))
        record = [event.record for event in events if isinstance(event, Finished)][-1]
        if record.failure is not None:
            raise UsageError(f"{task} could not be scored with {rule}: {record.failure.sentence}")
        scores[rule] = record.metrics[card.report]
    return scores


def _draw(maps: dict[int, Tensor], radiograph: Tensor, picture: Path) -> None:
    tiles = [np.repeat(radiograph[0].numpy()[..., None], 3, axis=2)]
    for _, features in sorted(maps.items()):
        small = Image.fromarray(features_as_colours(features[0]))
        tiles.append(np.asarray(small.resize((FRAME, FRAME), Image.Resampling.NEAREST)))
    content = io.BytesIO()
    Image.fromarray(np.concatenate(tiles, axis=1)).save(content, "png")
    with writing(picture, "Name another file with --picture."):
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(picture, content.getvalue())
