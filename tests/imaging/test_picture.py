"""Promises of `benchmark.imaging.picture`: one rule from colour to grey, and masks that read the same however they were saved."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.PngImagePlugin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import EnvironmentProblem, ImageError
from benchmark.imaging import limits
from benchmark.imaging.picture import GreyRule, is_turned, read_grey, read_levels, read_mask, size_of

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "real"
COLOURS = np.random.RandomState(0).randint(0, 256, (30, 50, 3)).astype(np.uint8)
GREY = COLOURS[:, :, 0]
MASK = np.zeros((30, 50), dtype=np.uint8)
MASK[3:9, 20:45] = 1


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    PIL.Image.fromarray(pixels).save(path, **options)
    return path


# --------------------------------------------------------------------------------------------------------------------- grey


def test_mean_rule_rounds_the_mean_of_three_channels_to_nearest(tmp_path: Path) -> None:
    path = saved(tmp_path / "colour.png", COLOURS)
    assert (read_grey(path, "a", GreyRule.MEAN) == np.rint(COLOURS.mean(axis=2))).all()


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_mean_of_three_channels_has_no_ties(colour: tuple[int, int, int]) -> None:
    assert abs(sum(colour) / 3 - sum(colour) // 3 - 0.5) > 0.1


def test_luma_rule_is_pillows_mode_l(tmp_path: Path) -> None:
    path = saved(tmp_path / "colour.png", COLOURS)
    assert (read_grey(path, "a", GreyRule.LUMA) == np.asarray(PIL.Image.fromarray(COLOURS).convert("L"))).all()
    assert (read_grey(path, "a", GreyRule.LUMA) != read_grey(path, "a", GreyRule.MEAN)).any()


@pytest.mark.parametrize("rule", list(GreyRule))
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_survives_every_mode_it_may_be_stored_in(tmp_path: Path, mode: str, rule: GreyRule) -> None:
    picture = PIL.Image.fromarray(GREY)
    if mode in ("LA", "RGBA"):
        picture = picture.convert(mode)
        picture.putalpha(PIL.Image.fromarray(COLOURS[:, :, 1]))  # transparency must not darken
    else:
        picture = picture.convert(mode)
    path = tmp_path / "grey.png"
    picture.save(path)
    assert PIL.Image.open(path).mode == mode
    assert (read_grey(path, "a", rule) == GREY).all()


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    pixels = (np.arange(1500).reshape(30, 50) * 43).astype(np.uint16)
    grey = read_grey(saved(tmp_path / "deep.png", pixels), "a")
    assert grey.dtype == np.uint16
    assert (grey == pixels).all()


def test_size_is_height_then_width(tmp_path: Path) -> None:
    assert size_of(saved(tmp_path / "grey.png", GREY), "a") == (30, 50)


# ------------------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_cut_off_picture_is_an_error_naming_file_and_id(tmp_path: Path, ending: str, share: float) -> None:
    path = saved(tmp_path / f"image.{ending}", COLOURS.repeat(6, axis=0))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError) as error:
        read_grey(path, "case-7")
    assert str(path) in str(error.value)
    assert "case-7" in str(error.value)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_whose_tail_was_never_downloaded_is_an_error(tmp_path: Path, ending: str) -> None:
    path = saved(tmp_path / f"image.{ending}", COLOURS.repeat(6, axis=0))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(ImageError, match="cut off"):
        read_grey(path, "case-7")


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_text_that_unpacks_to_too_much_is_an_error_for_every_reader(tmp_path: Path, chunk: bytes) -> None:
    content = saved(tmp_path / "a.png", GREY).read_bytes()
    body = chunk + b"name\0\0" + zlib.compress(bytes(80 * 2**20))
    (tmp_path / "a.png").write_bytes(
        content[:33] + (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + content[33:]
    )
    for read in (size_of, read_grey, read_mask, read_levels):
        with pytest.raises(ImageError, match=r"a\.png \(id case-7\)"):
            read(tmp_path / "a.png", "case-7")
    assert not is_turned(tmp_path / "a.png")


# ------------------------------------------------------------------------------------------ what Pillow would drop or turn round


def deep_png(path: Path, colour_type: int, channels: int) -> Path:
    """30 x 50 pixels of 16 bits a channel, which Pillow does not write."""
    header = (50).to_bytes(4, "big") + (30).to_bytes(4, "big") + bytes([16, colour_type, 0, 0, 0])
    row = b"\0" + np.arange(50 * channels, dtype=">u2").tobytes()
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * 30)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in chunks)
    )
    return path


def tiff(path: Path, pixels: np.ndarray, **tags: int | tuple[int, ...]) -> Path:
    """An uncompressed little-endian TIFF with tags that Pillow does not write: t262=0 is tag 262."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    height, width = pixels.shape[:2]
    entries = {256: (4, (width,)), 257: (4, (height,)), 258: (3, (8 * pixels.itemsize,) * channels), 259: (3, (1,))}
    entries |= {262: (3, (2 if channels > 1 else 1,)), 273: (4, (8,)), 277: (3, (channels,)), 278: (4, (height,))}
    entries |= {279: (4, (pixels.nbytes,))}
    entries |= {int(name[1:]): (3, value if isinstance(value, tuple) else (value,)) for name, value in tags.items()}
    at = 8 + pixels.nbytes
    directory, behind = len(entries).to_bytes(2, "little"), b""
    for tag, (kind, values) in sorted(entries.items()):
        packed = b"".join(value.to_bytes(2 if kind == 3 else 4, "little") for value in values)
        if len(packed) > 4:
            place = at + 2 + 12 * len(entries) + 4 + len(behind)
            behind, packed = behind + packed, place.to_bytes(4, "little")
        directory += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + len(values).to_bytes(4, "little") + packed.ljust(4, b"\0")
    path.write_bytes(b"II*\0" + at.to_bytes(4, "little") + pixels.tobytes() + directory + bytes(4) + behind)
    return path


@pytest.mark.parametrize("read", [read_grey, read_levels, read_mask])
def test_sixteen_bits_in_colour_or_with_alpha_are_refused(tmp_path: Path, read) -> None:
    colour = np.arange(30 * 50 * 3, dtype="<u2").reshape(30, 50, 3)
    files = [deep_png(tmp_path / f"{kind}.png", kind, channels) for kind, channels in ((2, 3), (4, 2), (6, 4))]
    files += [tiff(tmp_path / "a.tif", colour), tiff(tmp_path / "planes.tif", colour, t284=2, t273=8, t279=30 * 50 * 2)]
    for path in files:
        with pytest.raises(ImageError, match=r"16 bits a channel in colour or with alpha.* Save it as 16-bit grey") as error:
            read(path, "case-7")
        assert str(path) in str(error.value)
    assert (read_grey(deep_png(tmp_path / "grey.png", 0, 1), "a")[3] == np.arange(50)).all()
    PIL.Image.fromarray(COLOURS).convert("RGB").save(tmp_path / "eight.tif")
    assert read_grey(tmp_path / "eight.tif", "a").dtype == np.uint8


@pytest.mark.parametrize("read", [read_grey, read_levels])
def test_a_deep_tiff_in_which_zero_is_white_is_refused(tmp_path: Path, read) -> None:
    deep = np.arange(30 * 50, dtype="<u2").reshape(30, 50)
    assert (read(tiff(tmp_path / "black.tif", deep, t262=1), "a") == deep).all()
    with pytest.raises(ImageError, match=r"white\.tif \(id a\): .* zero is white, which would be read as a negative"):
        read(tiff(tmp_path / "white.tif", deep, t262=0), "a")
    assert (read(tiff(tmp_path / "eight.tif", GREY, t262=0), "a") == 255 - GREY).all()  # which Pillow turns round


@pytest.mark.parametrize("read", [read_grey, read_levels, read_mask])
def test_a_tiff_of_signed_bytes_is_refused(tmp_path: Path, read) -> None:
    with pytest.raises(ImageError, match="signed numbers in 8 bits"):
        read(tiff(tmp_path / "signed.tif", GREY, t339=2), "a")


@pytest.mark.parametrize("read", [read_grey, read_levels, read_mask])
def test_several_pages_or_frames_are_refused(tmp_path: Path, read) -> None:
    one, other = PIL.Image.fromarray(MASK * 255), PIL.Image.fromarray(255 - MASK * 255)
    for ending in ("tif", "gif", "png"):
        path = tmp_path / f"several.{ending}"
        one.save(path, save_all=True, append_images=[other])
        with pytest.raises(ImageError, match="more than one page or frame, expected one picture") as error:
            read(path, "case-7")
        assert str(path) in str(error.value)
        one.save(path)
        assert ((read(path, "a") > 0) == (MASK > 0)).all()


def test_a_second_frame_whose_header_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "several.gif"
    one = PIL.Image.fromarray(GREY)
    one.save(path)
    n_bytes = path.stat().st_size
    one.save(path, save_all=True, append_images=[PIL.Image.fromarray(255 - GREY)])
    content = path.read_bytes()
    second = content.index(b",", n_bytes - 4)
    for n_kept in range(1, 10):
        path.write_bytes(content[: second + n_kept])
        with pytest.raises(ImageError):
            read_grey(path, "a")


def test_previews_in_a_jpeg_are_not_further_pictures(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(np.tile(GREY[:1], (16, 1)))
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture.resize((10, 8))], quality=98)
    assert PIL.Image.open(tmp_path / "a.jpg").format == "MPO"
    assert read_grey(tmp_path / "a.jpg", "a").shape == (16, 50)


def test_missing_files_and_other_bytes_are_errors(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>404</html>")
    with pytest.raises(ImageError, match="not a picture"):
        read_grey(tmp_path / "page.png", "case-7")
    with pytest.raises(ImageError, match="no such file"):
        read_grey(tmp_path / "gone.png", "case-7")
    with pytest.raises(ImageError, match="not a readable picture"):
        size_of(tmp_path / "page.png", "case-7")


def test_a_picture_without_rows_is_no_picture() -> None:
    assert limits.fault_of(0, 5) == "it declares 0 rows x 5 columns, which is no picture"
    assert limits.fault_of(5, 0) == "it declares 5 rows x 0 columns, which is no picture"
    assert limits.fault_of(1, 1) is None


def test_values_beyond_sixteen_bits_are_an_error(tmp_path: Path) -> None:
    for value in (65_535, 65_536, -1):
        PIL.Image.fromarray(np.full((4, 6), value, np.int32)).save(tmp_path / "a.tiff")
        if value == 65_535:
            assert read_grey(tmp_path / "a.tiff", "a").dtype == np.uint16
        else:
            with pytest.raises(ImageError, match=r"a\.tiff \(id a\): pixel values outside 0\.\.65535"):
                read_grey(tmp_path / "a.tiff", "a")


def test_a_printers_colour_model_is_an_error(tmp_path: Path) -> None:
    PIL.Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(ImageError, match="CMYK"):
        read_grey(tmp_path / "print.jpg", "case-7")


def test_pillows_switch_for_cut_off_files_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "grey.png", GREY)
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(EnvironmentProblem):
        read_grey(path, "case-7")


# -------------------------------------------------------------------------------------------------------------------- masks


def palette_file(path: Path, entries: list[int]) -> Path:
    picture = PIL.Image.fromarray(MASK).convert("P")
    picture = PIL.Image.frombytes("P", (50, 30), MASK.tobytes())
    picture.putpalette(entries)
    picture.save(path)
    return path


def test_masks_read_the_same_in_every_form_they_are_saved_in(tmp_path: Path) -> None:
    files = [
        saved(tmp_path / "one.png", MASK),
        saved(tmp_path / "white.png", MASK * 255),
        saved(tmp_path / "bits.png", MASK.astype(bool)),
        saved(tmp_path / "lovt.gif", MASK * 255),  # Pillow compacts the palette: indices 0 and 1
        palette_file(tmp_path / "dark.png", [0, 0, 0, 1, 1, 1]),
        palette_file(tmp_path / "red.png", [0, 0, 0, 128, 0, 0]),
    ]
    assert [PIL.Image.open(f).mode for f in files] == ["L", "L", "1", "P", "P", "P"]
    for path in files:
        mask = read_mask(path, "a")
        assert mask.dtype == np.bool_
        assert (mask == (MASK > 0)).all(), path.name


def test_an_empty_mask_is_empty_in_every_form(tmp_path: Path) -> None:
    empty = np.zeros_like(MASK)
    for path in (saved(tmp_path / "e.png", empty), saved(tmp_path / "e.gif", empty)):
        assert not read_mask(path, "a").any()


def test_a_mask_that_is_white_everywhere_does_not_read_as_empty(tmp_path: Path) -> None:
    full = np.full_like(MASK, 255)
    assert read_mask(saved(tmp_path / "full.png", full), "a").all()
    gif = saved(tmp_path / "full.gif", full)
    if (np.asarray(PIL.Image.open(gif)) == 0).all():  # what a compacted palette does to it
        with pytest.raises(ImageError, match="palette entry 0"):
            read_mask(gif, "a")


@pytest.mark.parametrize("levels", [(0, 17), (0, 1, 255), (0, 128, 255)])
def test_other_values_than_a_mask_are_an_error(tmp_path: Path, levels: tuple[int, ...]) -> None:
    pixels = np.resize(np.array(levels, dtype=np.uint8), (30, 50))
    with pytest.raises(ImageError, match=f"found {', '.join(map(str, levels))}"):
        read_mask(saved(tmp_path / "mask.png", pixels), "case-7")


def test_lossy_colour_and_cut_off_masks_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="JPEG"):
        read_mask(saved(tmp_path / "mask.jpg", MASK * 255), "case-7")
    with pytest.raises(ImageError, match="RGB"):
        read_mask(saved(tmp_path / "colour.png", COLOURS), "case-7")
    path = saved(tmp_path / "cut.png", GREY)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError, match="cut off"):
        read_mask(path, "case-7")


@pytest.mark.parametrize("read", [read_mask, read_levels])
def test_no_lossy_file_is_a_mask_in_any_container(tmp_path: Path, read) -> None:
    picture = PIL.Image.fromarray(MASK * 255)
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture])
    picture.save(tmp_path / "a.jp2", irreversible=True)
    picture.save(tmp_path / "a.tif", compression="jpeg")
    for name in ("a.jpg", "a.jp2", "a.tif"):
        with pytest.raises(ImageError, match=r"a (TIFF compressed as )?JPEG( 2000)? cannot hold a mask, its edges are noise"):
            read(tmp_path / name, "a")
    picture.save(tmp_path / "b.tif", compression="tiff_lzw")
    assert ((read(tmp_path / "b.tif", "a") > 0) == (MASK > 0)).all()


def test_levels_are_whole_numbers_in_one_channel_or_equal_ones(tmp_path: Path) -> None:
    PIL.Image.fromarray(MASK.astype(np.float32)).save(tmp_path / "f.tif")
    PIL.Image.fromarray(np.stack([MASK] * 3, axis=-1) * 255).convert("CMYK").save(tmp_path / "cmyk.tif")
    for name, mode in (("f.tif", "F"), ("cmyk.tif", "CMYK")):
        with pytest.raises(ImageError, match=f"a mask of mode {mode}; expected whole numbers in one channel"):
            read_levels(tmp_path / name, "a")
    for mode in ("L", "LA", "RGB", "RGBA", "1"):
        PIL.Image.fromarray(MASK * 255).convert(mode).save(tmp_path / "a.png")
        assert ((read_levels(tmp_path / "a.png", "a") > 0) == (MASK > 0)).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("grey", [0, 255])
def test_a_mask_in_the_alpha_channel_is_refused(tmp_path: Path, mode: str, grey: int) -> None:
    picture = PIL.Image.new(mode, (50, 30), (grey,) * (len(mode) - 1) + (255,))
    picture.save(tmp_path / "opaque.png")
    assert (read_levels(tmp_path / "opaque.png", "a") == grey).all()
    picture.putalpha(PIL.Image.fromarray(MASK * 255))
    picture.save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"the mask is in the alpha channel\. Save it as one channel"):
        read_levels(tmp_path / "a.png", "a")


def test_levels_of_a_palette_are_its_indices_whose_zero_is_black_where_it_is_the_background(tmp_path: Path) -> None:
    white, black = palette_file(tmp_path / "w.png", [255, 255, 255, 0, 0, 0]), palette_file(tmp_path / "b.png", [0, 0, 0, 9, 9, 9])
    assert (read_levels(white, "a") == MASK).all()
    assert (read_levels(black, "a", zero_is_background=True) == MASK).all()
    with pytest.raises(ImageError, match="palette entry 0 is not black"):
        read_levels(white, "a", zero_is_background=True)


# --------------------------------------------------------------------------------------------------------------- real files


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not beside the checkout")
@pytest.mark.parametrize(("name", "shape"), [("16747_3_1.jpg", (885, 1036)), ("nih_00000001_000.png", (512, 512))])
def test_real_radiographs_read_the_same_under_both_rules(name: str, shape: tuple[int, int]) -> None:
    grey = read_grey(REAL / name, name, GreyRule.MEAN)
    assert grey.shape == shape
    assert grey.dtype == np.uint8
    assert (grey == read_grey(REAL / name, name, GreyRule.LUMA)).all()  # grey stored as colour


# -------------------------------------------------------------------------------------------------------------- orientation


TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_90,  # how it is stored; turned back by 270 degrees it is shown
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_270,
}


def turned(path: Path, picture: PIL.Image.Image, orientation: int, **options: object) -> Path:
    """Stored as a camera held otherwise stores it; every viewer shows `picture`."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    picture.transpose(TURNS[orientation]).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_picture_stored_turned_is_read_as_viewers_show_it(tmp_path: Path, orientation: int, suffix: str) -> None:
    smooth = np.add.outer(np.arange(32) * 2, np.arange(48) * 3).astype(np.uint8)
    path = turned(tmp_path / f"a.{suffix}", PIL.Image.fromarray(smooth), orientation, **({"quality": 98} if suffix == "jpg" else {}))
    assert size_of(path, "a") == (32, 48)
    if suffix == "tif" and orientation > 4:
        with pytest.raises(ImageError, match="quarter turn"):
            read_grey(path, "a")
        return
    assert np.abs(read_grey(path, "a").astype(int) - smooth).max() <= (3 if suffix == "jpg" else 0)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("mode", ["L", "1", "P", "I;16"])
def test_masks_and_sixteen_bits_are_turned_alike(tmp_path: Path, orientation: int, mode: str) -> None:
    if mode == "I;16":
        pixels = np.arange(30 * 50, dtype=np.uint16).reshape(30, 50) * 40
        assert (read_grey(turned(tmp_path / "a.png", PIL.Image.fromarray(pixels), orientation), "a") == pixels).all()
        return
    picture = PIL.Image.fromarray(MASK * 255 if mode == "1" else MASK)
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 255, 255])
    path = turned(tmp_path / "a.png", picture.convert("1") if mode == "1" else picture, orientation)
    assert (read_mask(path, "a") == (MASK > 0)).all()


def test_mask_in_a_turned_jpeg_is_refused_as_any_jpeg(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot hold a mask"):
        read_mask(turned(tmp_path / "a.jpg", PIL.Image.fromarray(MASK), 3), "a")


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\x08\0\0\0\x01", b"Exif\0\0junk", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0"]
)
def test_damaged_or_unknown_orientation_counts_as_none(tmp_path: Path, exif: bytes) -> None:
    path = saved(tmp_path / "a.jpg", np.tile(GREY[:1], (16, 1)), quality=98, exif=exif)
    plain = saved(tmp_path / "b.jpg", np.tile(GREY[:1], (16, 1)), quality=98)
    assert (read_grey(path, "a") == read_grey(plain, "a")).all()
    assert size_of(path, "a") == (16, 50)


def test_an_orientation_that_cannot_be_read_at_all_counts_as_none(tmp_path: Path) -> None:
    """As ImageMagick keeps it in a PNG, here without one hexadecimal digit."""
    text = PIL.PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 4\nno digits")
    PIL.Image.fromarray(GREY).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(ValueError, match="hexadecimal"):
        PIL.Image.open(tmp_path / "a.png").getexif()
    assert (read_grey(tmp_path / "a.png", "a") == GREY).all()


def _declaring(folder: Path, kind: str, height: int, width: int) -> Path:
    """A small file whose header alone says how large it is."""
    path = folder / f"image.{kind}"
    PIL.Image.new("L", (16, 16), 7).save(path)
    content = bytearray(path.read_bytes())
    if kind == "png":
        content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    elif kind == "jpg":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    elif kind == "gif":
        content[6:10] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    else:
        for tag, value in ((256, width), (257, height)):  # an entry of the directory: tag, type, count, value
            at = next(
                k
                for k in range(len(content))
                if content[k : k + 2] == tag.to_bytes(2, "little") and content[k + 3 : k + 8] == b"\0\1\0\0\0"
            )
            content[at + 2 : at + 12] = b"\x04\0\1\0\0\0" + value.to_bytes(4, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif"])
@pytest.mark.parametrize("sides", [(60_000, 60_000), (20_001, 16), (11_000, 11_000)])
@pytest.mark.parametrize("read", [read_grey, read_mask])
def test_a_declared_size_beyond_the_limit_is_refused_before_decoding(tmp_path: Path, monkeypatch, kind: str, sides: tuple, read) -> None:
    path = _declaring(tmp_path, kind, *sides)
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"declares .* and is not decoded|exceeds limit") as error:
        read(path, "case-7")
    assert str(path) in str(error.value)


def test_what_pillow_would_hand_to_another_program_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="not a picture file"):
        read_grey(path, "case-7")
