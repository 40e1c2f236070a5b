"""Grey radiographs and masks out of PNG, JPEG and GIF files.

No resizing here. Three silent failures are closed: colour turned grey by another rule than the release's users had; masks read through
their palette, which makes 0/1 files look empty and 0/255 files look right; and pictures stored turned or mirrored, with the way back in
EXIF. Pixels, masks and sizes are those of the picture as viewers show it, because masks and boxes were drawn on that. Where they were
drawn on stored pixels, a quarter turn shows in the size, and the reader says so; a half turn shows in nothing.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.PngImagePlugin
import PIL.TiffImagePlugin

from benchmark.errors import EnvironmentProblem, ImageError, NotRegular
from benchmark.files import open_regular, read_bytes
from benchmark.imaging import limits

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I")
_COLOUR = ("RGB", "RGBA", "P", "PA")
# No other: Pillow hands some formats to other programs (EPS to Ghostscript).
_FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_ORIENTATION = 0x0112
# EXIF orientation -> what shows the picture upright (Exif 2.32, table 6, "Orientation"); 1 and values not listed leave it as it is.
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_SIDES_CHANGE = (5, 6, 7, 8)
# What Pillow raises for damaged files: ValueError also for text that unpacks to too much, the last two for the second frame of a GIF.
_UNREADABLE = (OSError, SyntaxError, ValueError, IndexError, struct.error)
# Tags of TIFF 6.0 by number.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2
# What loses values on the way to the file, by Pillow's name of the format, or of the compression inside a TIFF.
_LOSSY = {
    "JPEG": "a JPEG",
    "MPO": "a JPEG",
    "JPEG2000": "a JPEG 2000",
    "jpeg": "a TIFF compressed as JPEG",
    "tiff_jpeg": "a TIFF compressed as JPEG",
    "webp": "a TIFF compressed as WebP",
}
_LEVELS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


class GreyRule(StrEnum):
    """How colour becomes grey; equal channels give the same grey under both.

    MEAN: mean of red, green and blue in float, rounded to the nearest integer. LoVT on COVID Rural. The mean of three integers is never
        halfway between two, so nearest is unambiguous, and grey stored as colour keeps its exact value (truncation would too, but would
        darken true colour by a third of a level on average).
    LUMA: Pillow's mode L (ITU-R 601-2). LoVT on Object-CXR and NIH.
    """

    MEAN = "mean"
    LUMA = "luma"


def read_grey(path: Path, sample_id: str, rule: GreyRule = GreyRule.LUMA) -> np.ndarray:
    """Decodes a picture to grey. An alpha channel is dropped, not blended.

    Returns:
        (H, W) uint8, or uint16 for 16-bit files.

    Raises:
        ImageError: missing, cut off, not a picture, of several pages or frames, stored in a way that Pillow would misread, or in a colour
            model radiographs do not have.
    """
    picture = _open(path, sample_id)
    if picture.mode in _SIXTEEN_BIT:
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{path} (id {sample_id}): pixel values outside 0..65535.")
        return values.astype(np.uint16)
    if picture.mode in ("L", "1"):
        return np.array(picture.convert("L"))
    if picture.mode == "LA":
        return np.array(picture.getchannel("L"))
    if picture.mode not in _COLOUR:
        raise ImageError(f"{path} (id {sample_id}): colour model {picture.mode}, expected grey or RGB.")
    colour = picture.convert("RGB") if picture.mode != "RGB" else picture
    if rule is GreyRule.LUMA:
        return np.array(colour.convert("L"))
    total = np.asarray(colour).astype(np.uint16).sum(axis=2, dtype=np.uint16)
    return ((total + 1) // 3).astype(np.uint8)  # equals rounding total / 3: remainders 0, 1, 2 go down, down, up


def read_mask(path: Path, sample_id: str) -> np.ndarray:
    """Reads a binary mask; files of 0/1, of 0/255 and with a palette read the same.

    Palettes are not looked through: the stored index decides, as in LoVT's loader.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: as `read_grey`; or lossy (JPEG), colour, or values other than 0 and 1, or 0 and 255.
    """
    picture = _open_mask(path, sample_id)
    if picture.mode not in ("1", "L", "P"):
        raise ImageError(f"{path} (id {sample_id}): a mask of mode {picture.mode}, expected one channel of 0/1 or 0/255.")
    _require_black_zero(picture, path, sample_id)
    values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    levels = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    if not (set(levels) <= {0, 1} or set(levels) <= {0, 255}):
        shown = ", ".join(map(str, levels[:5])) + (", ..." if len(levels) > 5 else "")
        raise ImageError(f"{path} (id {sample_id}): a mask holds 0 and 1, or 0 and 255; found {shown}. Is this the mask file?")
    return values > 0


def size_of(path: Path, sample_id: str) -> tuple[int, int]:
    """(height, width) of the picture as it is shown, from the file's header, without decoding."""
    try:
        with open_regular(path) as file, PIL.Image.open(file, formats=_FORMATS) as picture:
            sides = picture.height, picture.width
            return sides[::-1] if _orientation(picture) in _SIDES_CHANGE and picture.format != "TIFF" else sides
    except (*_UNREADABLE, PIL.Image.DecompressionBombError) as error:
        raise ImageError(f"{path} (id {sample_id}): not a readable picture ({error}).") from error


def is_turned(path: Path) -> bool:
    """Whether EXIF says that the stored picture is to be turned or mirrored; False also for what cannot be opened."""
    try:
        with open_regular(path) as file, PIL.Image.open(file, formats=_FORMATS) as picture:
            return _orientation(picture) != 1
    except (*_UNREADABLE, PIL.Image.DecompressionBombError):
        return False


def read_levels(path: Path, sample_id: str, *, zero_is_background: bool = False) -> np.ndarray:
    """Reads a mask whose pixel values mean classes. Palettes are not looked through: the stored index decides.

    Args:
        zero_is_background: the caller takes everything but zero for the mask, so that entry 0 of a palette has to be black.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        ImageError: as `read_grey`; or lossy (JPEG), no whole numbers, of several channels that differ, or drawn in the alpha channel.
    """
    picture = _open_mask(path, sample_id)
    if picture.mode in _SIXTEEN_BIT:
        wide = np.asarray(picture)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageError(f"{path} (id {sample_id}): pixel values outside 0..65535.")
        return wide.astype(np.uint16)
    if picture.mode not in _LEVELS:
        raise ImageError(f"{path} (id {sample_id}): a mask of mode {picture.mode}; expected whole numbers in one channel.")
    if zero_is_background:
        _require_black_zero(picture, path, sample_id)
    values = np.asarray(picture).astype(np.uint8)
    if values.ndim == 2:
        return values
    channels = values[..., :3] if picture.mode in ("RGB", "RGBA") else values[..., :1]
    if (channels != channels[..., :1]).any():
        raise ImageError(f"{path} (id {sample_id}): a mask in colour; expected one value a pixel, or equal channels.")
    alpha = values[..., -1]
    if picture.mode.endswith("A") and alpha.min() != alpha.max() and channels.min() == channels.max():
        raise ImageError(f"{path} (id {sample_id}): the mask is in the alpha channel. Save it as one channel.")
    return np.ascontiguousarray(channels[..., 0])


def require_strict_pillow() -> None:
    """Pillow has a process-wide switch that turns cut-off files into half-grey pictures without a word.

    Raises:
        EnvironmentProblem: somebody turned it on.
    """
    if PIL.ImageFile.LOAD_TRUNCATED_IMAGES:
        raise EnvironmentProblem(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: cut-off images would be read as half-grey ones. Turn it off in your backbone file."
        )


def _open_mask(path: Path, sample_id: str) -> PIL.Image.Image:
    picture = _open(path, sample_id)
    lossy = _LOSSY.get(picture.format or "") or _LOSSY.get(str(picture.info.get("compression")))
    if lossy:
        raise ImageError(f"{path} (id {sample_id}): {lossy} cannot hold a mask, its edges are noise. Expected PNG, GIF or plain TIFF.")
    return picture


def _require_black_zero(picture: PIL.Image.Image, path: Path, sample_id: str) -> None:
    """GIF writers compact palettes: a mask that is white everywhere then has index 0 everywhere and would read as empty."""
    if picture.mode in ("P", "PA") and (picture.getpalette() or [])[:3] != [0, 0, 0]:
        raise ImageError(
            f"{path} (id {sample_id}): palette entry 0 is not black, so background and mask cannot be told apart. Save it in grey, "
            "without a palette."
        )


def _open(path: Path, sample_id: str) -> PIL.Image.Image:
    require_strict_pillow()
    try:
        with open_regular(path) as file, PIL.Image.open(file, formats=_FORMATS) as picture:
            if fault := limits.fault_of(picture.height, picture.width):
                raise ImageError(f"{path} (id {sample_id}): {fault}. Is this the radiograph?")
            kind = picture.format
            if kind == "TIFF" and _orientation(picture) in _SIDES_CHANGE:
                raise ImageError(f"{path} (id {sample_id}): a TIFF stored by a quarter turn, which Pillow scrambles. Save it upright.")
            if fault := _misread(picture):
                raise ImageError(f"{path} (id {sample_id}): {fault}")
            picture.load()
            upright = _UPRIGHT.get(_orientation(picture))  # of a TIFF none is left: Pillow turned it
    except NotRegular as error:
        raise ImageError(f"{path} (id {sample_id}): {error.strerror}. Put the file itself in its place.") from None
    except FileNotFoundError:
        raise ImageError(f"{path} (id {sample_id}): no such file. Is the image folder complete?") from None
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{path} (id {sample_id}): not a picture file. Download it again.") from None
    except PIL.Image.DecompressionBombError as error:  # Pillow's own limit, before ours can be asked
        raise ImageError(f"{path} (id {sample_id}): {error}. Is this the radiograph?") from None
    except _UNREADABLE as error:
        raise ImageError(f"{path} (id {sample_id}): cannot be decoded, it is cut off or damaged ({error}).") from error
    if kind == "JPEG":
        _require_jpeg_end(path, sample_id)
    if upright is None:
        return picture
    turned = picture.transpose(upright)
    turned.format = kind
    return turned


def _misread(picture: PIL.Image.Image) -> str | None:
    """What the file holds and Pillow would drop or turn round without a word, for a sentence that names the file; asked before `load`."""
    if picture.format != "MPO" and getattr(picture, "is_animated", False):  # what follows in an MPO are previews of the first
        return "more than one page or frame, expected one picture. Save each in a file of its own."
    deep = isinstance(picture, PIL.PngImagePlugin.PngImageFile) and any(";16" in str(tile[3]) for tile in picture.tile)
    if isinstance(picture, PIL.TiffImagePlugin.TiffImageFile):
        tags = picture.tag_v2
        deep = max(tags.get(_BITS, (1,))) == 16  # a file of separate planes has another raw mode
        if picture.mode == "L" and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
            return "a TIFF of signed numbers in 8 bits, which would be read as unsigned. Save it as unsigned grey."
        if picture.mode in _SIXTEEN_BIT and tags.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO:
            return "a TIFF of 16 bits in which zero is white, which would be read as a negative. Save it with zero as black."
    if deep and picture.mode not in _SIXTEEN_BIT:
        return "16 bits a channel in colour or with alpha, which would be read as 8. Save it as 16-bit grey."
    return None


def _orientation(picture: PIL.Image.Image) -> int:
    """1 to 8 by EXIF; 1 without it, and where it cannot be read."""
    try:
        found = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged block fails in as many ways as it has fields; viewers show the picture as it is stored
        return 1
    return found if found in _UPRIGHT else 1


def _require_jpeg_end(path: Path, sample_id: str) -> None:
    """A JPEG whose tail is zeros (an interrupted download into a reserved file) decodes without an error: ask for the end marker."""
    content = read_bytes(path)
    if content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN):
        raise ImageError(f"{path} (id {sample_id}): the JPEG is cut off (no end marker). Download it again.")
