"""Checks a backbone's contract on random images before any job runs, and names the method at fault.

Looks for what gives a plausible number instead of a crash: wrong strides, hidden train mode, a second normalisation, cut gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, LobeError

N_IMAGES = 2
# One image alone and in a batch may take other kernels; a backbone that mixes images differs by far more.
BATCH_TOLERANCE = 1e-3
# A first layer that sees the image to within this share of its spread sees it unchanged.
UNCHANGED = 1e-3
# Images that correlate more than this are the same picture.
SAME_IMAGE = 0.9
# A resized image is compared on so many places a side, where the way of resizing moves contrast and brightness by less than this share.
COARSE = 16
RESIZED = 0.15


def check(encoder: SealedEncoder, frame_size: int) -> None:
    """Runs every check; leaves mode and weights (BatchNorm statistics included) as they were.

    Raises:
        ConformanceError: names the fault and the method.
    """
    mode = encoder.mode
    images = _images(frame_size, next(encoder.backbone.parameters(), torch.empty(0)).device)
    state = {name: tensor.clone() for name, tensor in encoder.backbone.state_dict().items()}
    try:
        encoder.set_mode("frozen")
        _check_spec(encoder)
        maps = _check_maps(encoder, images)
        _check_repeatable(encoder, images, maps)
        _check_levels_on_request(encoder, images, maps)
        _check_images_apart(encoder, images, maps)
        _check_normalised_once(encoder, images)
        _check_channels(encoder, images)
        _check_own_size(encoder, images)
        _check_pooled(encoder, images)
        _check_blank_image(encoder, images)
        _check_state_untouched(encoder, state)
        _check_gradients(encoder, images)
    finally:
        encoder.backbone.load_state_dict(state)
        encoder.backbone.zero_grad(set_to_none=True)
        encoder.set_mode(mode)


def _images(frame_size: int, device: torch.device) -> Tensor:
    """(2, S, S) uint8 noise with coarse structure, always the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(N_IMAGES, 1, 8, 8, generator=generator)
    images = nn.functional.interpolate(coarse, size=(frame_size, frame_size), mode="bilinear")[:, 0]
    return (255 * (0.8 * images + 0.2 * torch.rand(images.shape, generator=generator))).to(torch.uint8).to(device)


def _check_spec(encoder: SealedEncoder) -> None:
    spec = getattr(encoder.backbone, "spec", None)
    if not isinstance(spec, BackboneSpec):
        _fault(encoder, "spec", "is no benchmark.cards.BackboneSpec")
    if not spec.strides:
        _fault(encoder, "spec", "names no feature level in `strides`")


def _check_maps(encoder: SealedEncoder, images: Tensor) -> Mapping[int, Tensor]:
    spec, side = encoder.backbone.spec, images.shape[-1]
    returned = _run(encoder, "pyramid", lambda: encoder.backbone.pyramid(encoder.fit_to_patches(encoder.normalise(images))))
    if not isinstance(returned, Mapping):
        _fault(encoder, "pyramid", f"returned {type(returned).__name__}, not a mapping from stride to feature map")
    if set(returned) != set(spec.strides):
        _fault(encoder, "pyramid", f"returned strides {sorted(returned)}; `spec` promises {sorted(spec.strides)}")
    fitted = encoder.fit_to_patches(encoder.normalise(images)).shape[-1]
    for stride, features in returned.items():
        if not isinstance(features, Tensor):
            _fault(encoder, "pyramid", f"returned {type(features).__name__} at stride {stride}, not a tensor")
        expected = (len(images), spec.strides[stride], fitted // stride, fitted // stride)
        if tuple(features.shape) != expected:
            _fault(encoder, "pyramid", f"returned shape {tuple(features.shape)} at stride {stride} of {side} px; expected {expected}")
        if not features.isfinite().all():
            _fault(encoder, "pyramid", f"returned NaN or infinity at stride {stride}")
    return encoder.pyramid(images)


def _check_repeatable(encoder: SealedEncoder, images: Tensor, maps: Mapping[int, Tensor]) -> None:
    for stride, features in encoder.pyramid(images).items():
        if not torch.equal(features, maps[stride]):
            _fault(encoder, "pyramid", f"gave two results for the same images in eval mode (stride {stride}): is dropout left on?")


def _check_levels_on_request(encoder: SealedEncoder, images: Tensor, maps: Mapping[int, Tensor]) -> None:
    for stride in maps:
        alone = _run(encoder, "pyramid", lambda stride=stride: encoder.pyramid(images, (stride,)))
        if set(alone) != {stride}:
            _fault(encoder, "pyramid", f"was asked for stride {stride} alone and returned {sorted(alone)}")
        if not torch.allclose(alone[stride], maps[stride], atol=BATCH_TOLERANCE * _spread(maps[stride])):
            _fault(encoder, "pyramid", f"returns another map at stride {stride} when asked for it alone (is one changed in place?)")


def _check_images_apart(encoder: SealedEncoder, images: Tensor, maps: Mapping[int, Tensor]) -> None:
    for stride, features in encoder.pyramid(images[:1]).items():
        if (features - maps[stride][:1]).abs().max() > BATCH_TOLERANCE * _spread(maps[stride]):
            _fault(
                encoder,
                "pyramid",
                f"gives an image another map alone than in a batch (stride {stride}): does BatchNorm use batch statistics in eval mode?",
            )


def _check_normalised_once(encoder: SealedEncoder, images: Tensor) -> None:
    """The first layer with weights must see the image as the harness gave it; an affine change of it is a second normalisation.

    A method may resize first (GLoRIA's embeddings do): then the resized image is compared, by its line of best fit.
    """
    normalised = encoder.fit_to_patches(encoder.normalise(images))
    for method in ("pyramid", "pooled"):
        seen = _first_layer_input(getattr(encoder.backbone, method), encoder.backbone, normalised)
        if seen is None or seen.shape[0] != normalised.shape[0] or seen.shape[1] > 3:
            continue  # patches cut by hand: nothing to compare with
        given, arrived = normalised.float(), seen.float()
        resized = given.shape[2:] != arrived.shape[2:]
        if resized:
            given, arrived = (nn.functional.adaptive_avg_pool2d(pictures, COARSE) for pictures in (given, arrived))
        if any(_is_changed(given[:, channel], arrived[:, channel], resized=resized) for channel in range(seen.shape[1])):
            _fault(
                encoder,
                method,
                "changes the images before its first layer: it seems to apply its own normalisation a second time. The harness normalises "
                "already; put the statistics into `spec.normalisation` and take the step out",
            )


def _is_changed(given: Tensor, arrived: Tensor, *, resized: bool) -> bool:
    """Whether the image that arrives is the given one, scaled or shifted."""
    if not resized and (arrived - given).abs().max() <= UNCHANGED * _spread(given):
        return False
    if torch.corrcoef(torch.stack([given.flatten(), arrived.flatten()]))[0, 1].abs() <= SAME_IMAGE:
        return False  # another picture altogether: an author's own stem, which may do as it likes
    if not resized:
        return True
    apart = given.flatten() - given.mean()
    slope = (apart * (arrived.flatten() - arrived.mean())).sum() / apart.square().sum()
    shift = arrived.mean() - given.mean()
    return bool((slope - 1).abs() > RESIZED or shift.abs() > RESIZED * _spread(given))


def _check_channels(encoder: SealedEncoder, images: Tensor) -> None:
    """Three equal channels come in; how many the first layer takes is the backbone's own word, and its adaptation's doing."""
    promised = encoder.backbone.spec.in_channels
    seen = _first_layer_input(encoder.backbone.pyramid, encoder.backbone, encoder.fit_to_patches(encoder.normalise(images)))
    if seen is not None and seen.shape[1] <= 3 and seen.shape[1] != promised:
        _fault(encoder, "pyramid", f"gives its first layer {seen.shape[1]} channel(s); `spec.in_channels` promises {promised}")


def _check_own_size(encoder: SealedEncoder, images: Tensor) -> None:
    """An image of the size that the backbone says it is made for."""
    size = encoder.backbone.spec.input_size
    if size < 1:
        _fault(encoder, "spec", f"names an `input_size` of {size} pixels")
    if size == images.shape[-1]:
        return
    try:
        maps = encoder.pyramid(_images(size, images.device)[:1])
    except LobeError:
        raise
    except Exception as error:
        _fault(encoder, "pyramid", f"does not take the {size} px of `spec.input_size`: {type(error).__name__}: {error}")
    for stride, features in maps.items():
        if features.shape[1] != encoder.backbone.spec.strides[stride] or not features.isfinite().all():
            shown = f"{tuple(features.shape)}, all finite: {bool(features.isfinite().all())}"
            _fault(encoder, "pyramid", f"does not take the {size} px of `spec.input_size`: at stride {stride} it returned {shown}")


def _first_layer_input(method: Callable[[Tensor], object], backbone: nn.Module, normalised: Tensor) -> Tensor | None:
    """What the first executed module with parameters of its own is given, if it is a batch of maps."""
    seen: list[Tensor] = []

    def remember(_module: nn.Module, arguments: tuple) -> None:
        if not seen and arguments and isinstance(arguments[0], Tensor):
            seen.append(arguments[0])

    own = [m for m in backbone.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    handles = [module.register_forward_pre_hook(remember) for module in own]
    try:
        with torch.no_grad():
            method(normalised)
    finally:
        for handle in handles:
            handle.remove()
    return seen[0] if seen and seen[0].dim() == 4 else None


def _check_pooled(encoder: SealedEncoder, images: Tensor) -> None:
    pooled = _run(encoder, "pooled", lambda: encoder.pooled(images))
    expected = (len(images), encoder.backbone.spec.embed_dim)
    if not isinstance(pooled, Tensor) or tuple(pooled.shape) != expected:
        _fault(encoder, "pooled", f"returned {tuple(getattr(pooled, 'shape', ()))}; `spec.embed_dim` promises {expected}")
    if not pooled.isfinite().all():
        _fault(encoder, "pooled", "returned NaN or infinity")
    if not torch.equal(encoder.pooled(images), pooled):
        _fault(encoder, "pooled", "gave two results for the same images in eval mode: is dropout left on?")
    if (encoder.pooled(images[:1]) - pooled[:1]).abs().max() > BATCH_TOLERANCE * _spread(pooled):
        _fault(
            encoder, "pooled", "gives an image another embedding alone than in a batch: does it use statistics of the batch in eval mode?"
        )


def _check_blank_image(encoder: SealedEncoder, images: Tensor) -> None:
    """Releases hold black and collimated images; a division by their spread gives NaN in the middle of a run."""
    blank = torch.zeros_like(images)
    for stride, features in _run(encoder, "pyramid", lambda: encoder.pyramid(blank)).items():
        if not features.isfinite().all():
            _fault(
                encoder, "pyramid", f"returned NaN or infinity at stride {stride} for a black image: is something divided by its spread?"
            )
    if not _run(encoder, "pooled", lambda: encoder.pooled(blank)).isfinite().all():
        _fault(encoder, "pooled", "returned NaN or infinity for a black image: is something divided by its spread?")


def _check_state_untouched(encoder: SealedEncoder, state: Mapping[str, Tensor]) -> None:
    for name, tensor in encoder.backbone.state_dict().items():
        if not torch.equal(tensor, state[name]):
            _fault(encoder, "pyramid", f"changed {name} in eval mode: is a layer kept in train mode?")


def _check_gradients(encoder: SealedEncoder, images: Tensor) -> None:
    encoder.set_mode("unfrozen")
    encoder.backbone.zero_grad(set_to_none=True)
    maps = encoder.pyramid(images)
    deepest = maps[max(maps)]
    if not deepest.requires_grad:
        _fault(encoder, "pyramid", "returns maps without gradient when the encoder is trained: is there a no_grad() or detach() inside?")
    deepest.square().mean().backward()
    trainable = [parameter for parameter in encoder.backbone.parameters() if parameter.requires_grad]
    if not any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in trainable):
        _fault(encoder, "pyramid", "passes no gradient to any parameter when the encoder is trained")


def _spread(features: Tensor) -> float:
    return float(features.detach().float().std()) or 1.0


def _run(encoder: SealedEncoder, method: str, call):
    try:
        return call()
    except LobeError:
        raise
    except Exception as error:
        raise ConformanceError(f"{_name(encoder)}: {method}() failed on random images with {type(error).__name__}: {error}") from error


def _name(encoder: SealedEncoder) -> str:
    spec = getattr(encoder.backbone, "spec", None)
    return getattr(spec, "name", type(encoder.backbone).__name__)


def _fault(encoder: SealedEncoder, method: str, what: str) -> NoReturn:
    called = method if method == "spec" else f"{method}()"
    raise ConformanceError(f"{_name(encoder)}: {called} {what}.")
