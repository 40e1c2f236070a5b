"""One radiograph out of one DICOM file: grey pixels, and the three header fields that may be kept.

Pixels as stored, or through the file's own rescale and window for releases that need them; no resizing or equalisation. Every transfer
syntax names exactly one decoder, because decoders differ by a grey level: "whichever plugin is installed" would give two machines two
datasets.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import mmap
import warnings
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.features
import PIL.Image
import pydicom
from pydicom import uid
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder

from benchmark.errors import EnvironmentProblem, ImageError, NotRegular
from benchmark.files import open_regular
from benchmark.imaging import limits, pixels_declared
from benchmark.imaging.person import age_decade, sex_of
from benchmark.imaging.picture import require_strict_pillow
from benchmark.imaging.stored_bits import BIT_POSITION, OVERLAYS, values_of

NATIVE = "pydicom"

# They name the file, and with it whoever was examined, on terminals and in logs. What is wrong with a file becomes an ImageError here.
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
logging.getLogger("pydicom").setLevel(logging.ERROR)

# Transfer syntax -> pydicom's plugin. RSNA and SIIM are JPEG Baseline: Pillow's libjpeg-turbo takes 7.5 ms where the others take 25-29 ms,
# and differs from them by a grey level. The lossless ones agree among plugins; HTJ2K has only one.
DECODERS: dict[str, str] = {
    uid.ImplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRBigEndian: NATIVE,
    uid.DeflatedExplicitVRLittleEndian: NATIVE,
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGExtended12Bit: "pylibjpeg",
    uid.JPEGLossless: "pylibjpeg",
    uid.JPEGLosslessSV1: "pylibjpeg",
    uid.JPEGLSLossless: "pylibjpeg",
    uid.JPEGLSNearLossless: "pylibjpeg",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pydicom",
}


_VIEWS = frozenset({"PA", "AP", "LL", "RL", "LATERAL"})
_DISTRIBUTIONS = ("pydicom", "pillow", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")
_BRIGHTEST = np.uint16(65_535)
_MAY_BE_EMPTY = (
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
)
# What the header has to say of the pixels. Values are converted when they are asked for, and only then does a damaged one show.
_OF_PIXELS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit"),
)
_MOST_INFLATED = 2 * limits.MOST_PIXELS + 64 * 2**20  # bytes of pixels and header behind a deflated data set


@dataclass(frozen=True)
class DicomImage:
    """One grey frame and what may be kept of its header.

    Attributes:
        pixels: (H, W) uint8 or uint16 in native byte order, larger is brighter, unscaled stored values; padding is as dark as the darkest
            other pixel.
        bits_stored: significant bits of a pixel: values lie in [0, 2**bits_stored).
        view: "PA", "AP", ... or None.
        sex: "M", "F" or None.
        age_decade: 0, 10, ... 90 in years; 90 stands for 90 and above; None where missing or not credible.
        transfer_syntax: the UID.
        decoder: the plugin that decoded the pixels.
    """

    pixels: np.ndarray
    bits_stored: int
    view: str | None
    sex: str | None
    age_decade: int | None
    transfer_syntax: str
    decoder: str


def read_dicom(path: Path, sample_id: str) -> DicomImage:
    """Decodes a single-frame grey DICOM file with the decoder its transfer syntax names.

    MONOCHROME1 is inverted over the stored bit range, so that larger is always brighter. Rescale and window tags are ignored, as LoVT does.

    Raises:
        ImageError: not DICOM, cut off, without pixel data, several frames, colour, signed, or pixels of another size than the header's.
        EnvironmentProblem: the decoder of this transfer syntax is not installed.
    """
    dataset, pixels, padding = _stored(path, sample_id)
    bits_stored = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = ((1 << bits_stored) - 1 - pixels.astype(np.int32)).astype(pixels.dtype)
    if padding is not None:
        pixels = np.where(padding, pixels[~padding].min(), pixels)
    return _described(dataset, pixels, bits_stored)


def read_windowed_dicom(path: Path, sample_id: str) -> DicomImage:
    """The same file as a viewer shows it first: rescaled, through its first window or lookup table, stretched to 16 bits.

    Files without either keep their stored order of grey levels. The stretch goes from the image's own darkest to its brightest value, so
    only the order and the proportions of grey levels mean anything: meant for datasets whose intensity rule is "equalised". MONOCHROME1 is
    inverted after the window, which is defined on stored values. Padding takes no part in the stretch and is black.

    Returns:
        pixels (H, W) uint16, `bits_stored` 16.

    Raises:
        ImageError: as `read_dicom`, or a window that does not say how grey levels follow from it.
        EnvironmentProblem: the decoder of this transfer syntax is not installed.

    Source: rescale and window to apply, docs/sources.md, VinDr-CXR; DICOM PS3.3, C.11.1 and C.11.2, by pydicom's own functions.
    """
    dataset, stored, padding = _stored(path, sample_id)
    try:
        for name in _MAY_BE_EMPTY:
            if name in dataset and not dataset[name].value and dataset[name].value != 0:
                del dataset[name]  # an empty tag says nothing, as if it were absent
        values = np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset), dtype=np.float64)
    except Exception as error:  # malformed windows fail in as many ways as there are tags
        raise ImageError(f"{path} (id {sample_id}): its rescale or window cannot be applied ({error}). Is this an edited copy?") from error
    shown, within = (values, stored) if padding is None else (values[~padding], stored[~padding])
    darkest, brightest = float(shown.min()), float(shown.max())
    if not np.isfinite([darkest, brightest]).all():
        raise ImageError(f"{path} (id {sample_id}): its rescale or window gives values that are not numbers. Is this an edited copy?")
    if brightest == darkest and within.min() != within.max():
        window = f"centre {dataset.get('WindowCenter')}, width {dataset.get('WindowWidth')}"
        raise ImageError(
            f"{path} (id {sample_id}): its window ({window}) turns stored values {within.min():,} to {within.max():,} into one grey level. "
            "Is this an edited copy?"
        )
    if padding is not None:
        values = np.where(padding, darkest, values)
    pixels = np.rint((values - darkest) / max(brightest - darkest, 1e-12) * _BRIGHTEST).astype(np.uint16)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = _BRIGHTEST - pixels
    if padding is not None:
        pixels[padding] = 0
    return _described(dataset, pixels, bits_stored=16)


def size_of_dicom(path: Path, sample_id: str) -> tuple[int, int]:
    """(height, width) from the header, without decoding or reading the pixels."""
    return _declared_size(_parse(path, sample_id, stop_before_pixels=True), path, sample_id)


@cache
def _decoder_versions() -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    turbo = PIL.features.version_feature("libjpeg_turbo") or PIL.features.version_codec("jpg")
    found["pillow libjpeg"] = str(turbo)
    return tuple(sorted(found.items()))


def decoder_versions() -> dict[str, str]:
    """Name -> version of everything that turns files into pixels, for the cache key and the record; "absent" where not installed."""
    return dict(_decoder_versions())


def _stored(path: Path, sample_id: str) -> tuple[pydicom.FileDataset, np.ndarray, np.ndarray | None]:
    """The header; the values as stored, (H, W) uint8 or uint16 in [0, 2**BitsStored); and (H, W) bool, True on padding, or None."""
    dataset = _parse(path, sample_id)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ImageError(f"{path} (id {sample_id}): the file does not say its transfer syntax; is it a damaged copy?")
    if syntax not in DECODERS:
        raise ImageError(f"{path} (id {sample_id}): transfer syntax {syntax} ({syntax.name}) has no named decoder; convert the file first.")
    _require_single_grey_frame(dataset, path, sample_id)
    cells = _decode(dataset, syntax, path, sample_id)
    try:
        return dataset, *values_of(cells, dataset)
    except (ValueError, TypeError) as error:  # the latter: tags of several values or of none
        raise ImageError(f"{path} (id {sample_id}): header and pixels contradict each other: {error}. Is this an edited copy?") from error


def _declared_size(dataset: pydicom.FileDataset, path: Path, sample_id: str) -> tuple[int, int]:
    try:
        return int(dataset.Rows), int(dataset.Columns)
    except (AttributeError, TypeError, ValueError):
        raise ImageError(f"{path} (id {sample_id}): the header does not say the image's size; is it a damaged copy?") from None


def _described(dataset: pydicom.FileDataset, pixels: np.ndarray, bits_stored: int) -> DicomImage:
    syntax = dataset.file_meta.TransferSyntaxUID
    return DicomImage(
        pixels=pixels,
        bits_stored=bits_stored,
        view=_view(dataset),
        sex=sex_of(_text(dataset, "PatientSex")),
        age_decade=age_decade(_text(dataset, "PatientAge")),
        transfer_syntax=str(syntax),
        decoder=DECODERS[syntax],
    )


def _parse(path: Path, sample_id: str, *, stop_before_pixels: bool = False) -> pydicom.FileDataset:
    try:
        with open_regular(path) as file:
            _require_bounded(file)
            dataset = pydicom.dcmread(file, force=False, stop_before_pixels=stop_before_pixels)
            for name in _OF_PIXELS:
                dataset.get(name)
            for group in OVERLAYS:
                dataset.get((group, BIT_POSITION))
            return dataset
    except NotRegular as error:
        raise ImageError(f"{path} (id {sample_id}): {error.strerror}. Put the file itself in its place.") from None
    except _TooMuch:
        raise ImageError(
            f"{path} (id {sample_id}): its deflated data set unpacks to more than {_MOST_INFLATED // 2**20} MiB and is not read. "
            "Is this the radiograph?"
        ) from None
    except FileNotFoundError:
        raise ImageError(f"{path} (id {sample_id}): no such file. Is the image folder complete?") from None
    except InvalidDicomError:
        raise ImageError(f"{path} (id {sample_id}): not a DICOM file (no DICM marker after the preamble). Download it again.") from None
    except Exception as error:  # a damaged header fails in as many ways as there are tags
        raise ImageError(
            f"{path} (id {sample_id}): the DICOM header cannot be read ({type(error).__name__}). Download it again."
        ) from error


class _TooMuch(Exception):
    """A deflated data set unpacks to more than may be."""


def _require_bounded(file: BinaryIO) -> None:
    """Leaves the file at its start. pydicom inflates a deflated data set whole, before any of its values can be asked for."""
    with contextlib.suppress(ValueError), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # an empty file has no map
        if content.find(uid.DeflatedExplicitVRLittleEndian.encode()) < 0:
            return
    read_preamble(file, force=False)
    if _read_file_meta_info(file).get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        if len(inflater.decompress(file.read(), _MOST_INFLATED + 1)) > _MOST_INFLATED:
            raise _TooMuch
    file.seek(0)


def _require_single_grey_frame(dataset: pydicom.FileDataset, path: Path, sample_id: str) -> None:
    if "PixelData" not in dataset or not dataset.PixelData:
        raise ImageError(f"{path} (id {sample_id}): no pixel data; the file is cut off or is not an image. Download it again.")
    frames = dataset.get("NumberOfFrames") or 1
    if frames != 1:  # several numbers are not equal to one either
        raise ImageError(f"{path} (id {sample_id}): {frames} frames, expected one radiograph.")
    height, width = _declared_size(dataset, path, sample_id)
    if fault := limits.fault_of(height, width):
        raise ImageError(f"{path} (id {sample_id}): {fault}. Is this the radiograph?")
    kind = dataset.get("PhotometricInterpretation", "nothing")
    if dataset.get("SamplesPerPixel", 1) != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"{path} (id {sample_id}): colour or palette pixels ({kind}), expected MONOCHROME1 or MONOCHROME2.")
    if (dataset.get("PixelRepresentation") or 0) != 0:
        raise ImageError(f"{path} (id {sample_id}): signed pixels, expected unsigned ones as in a radiograph.")
    if dataset.get("BitsAllocated") not in (8, 16):
        raise ImageError(f"{path} (id {sample_id}): {dataset.get('BitsAllocated')} bits allocated per pixel, expected 8 or 16.")


def _decode(dataset: pydicom.FileDataset, syntax: uid.UID, path: Path, sample_id: str) -> np.ndarray:
    plugin = DECODERS[syntax]
    decoder = get_decoder(syntax)
    if syntax.is_encapsulated and plugin not in decoder.available_plugins:
        raise EnvironmentProblem(
            f"{path} (id {sample_id}) is {syntax.name}; its decoder, pydicom's {plugin!r} plugin, is not installed "
            f"({'; '.join(decoder.missing_dependencies)}). `lobe doctor` says how to mend it; another decoder would give other grey levels."
        )
    require_strict_pillow()
    try:
        pixels_declared.require(dataset, syntax, _declared_size(dataset, path, sample_id), plugin == "pillow", f"{path} (id {sample_id})")
        pixels, _ = decoder.as_array(
            dataset,
            decoding_plugin=plugin if syntax.is_encapsulated else "",
            correct_unused_bits=False,  # type: ignore[arg-type]  # pydicom writes `**kwargs: DecodeOptions` for `Unpack[DecodeOptions]`
        )
    except ImageError:
        raise
    except Exception as error:  # decoders raise errors of many types, as their C libraries fail
        raise ImageError(f"{path} (id {sample_id}): the pixel data cannot be decoded, it is cut off or damaged ({error}).") from error
    if pixels.ndim != 2 or pixels.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ImageError(f"{path} (id {sample_id}): decoded to {pixels.dtype} {pixels.shape}, expected (H, W) of uint8 or uint16.")
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _view(dataset: pydicom.FileDataset) -> str | None:
    view = _text(dataset, "ViewPosition").strip().upper()
    return view if view in _VIEWS else None


def _text(dataset: pydicom.FileDataset, name: str) -> str:
    """Empty also where the value cannot be read: an image without it is as good."""
    try:
        return str(dataset.get(name, "") or "")
    except Exception:  # a damaged value fails in as many ways as there are types
        return ""
