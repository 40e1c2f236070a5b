"""Promises of `benchmark.imaging.dicom`: one decoder per transfer syntax, larger is brighter, and no damaged file passes as an image."""

from __future__ import annotations

import io
from pathlib import Path

import gdcm
import numpy as np
import PIL.Image
import PIL.ImageFile
import pydicom
import pytest
from pydicom import uid
from pydicom.pixels import get_decoder

from benchmark.errors import EnvironmentProblem, ImageError
from benchmark.imaging import dicom
from benchmark.imaging.dicom import DECODERS, decoder_versions, read_dicom, read_windowed_dicom, size_of_dicom
from tests.imaging.dicom_files import assert_named, baseline, dataset_of, gradient, recompressed, write

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "real"


# ----------------------------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("bits", [8, 12])
def test_uncompressed_pixels_come_back_as_stored(tmp_path: Path, bits: int) -> None:
    pixels = gradient(bits=bits)
    image = read_dicom(write(tmp_path, dataset_of(pixels, bits)), "a")
    assert image.pixels.dtype == pixels.dtype
    assert (image.pixels == pixels).all()
    assert (image.bits_stored, image.decoder) == (bits, "pydicom")


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless])
def test_lossless_syntaxes_written_by_pydicom_decode_exactly(tmp_path: Path, syntax: uid.UID, bits: int) -> None:
    dataset = dataset_of(gradient(bits=bits), bits)
    dataset.compress(syntax)
    image = read_dicom(write(tmp_path, dataset), "a")
    assert (image.pixels == gradient(bits=bits)).all()
    assert image.decoder == DECODERS[syntax]


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("name", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless"])
def test_lossless_syntaxes_written_by_gdcm_decode_exactly(tmp_path: Path, name: str, bits: int) -> None:
    source = write(tmp_path, dataset_of(gradient(bits=bits), bits))
    target = recompressed(source, tmp_path / "compressed.dcm", getattr(gdcm.TransferSyntax, name))
    assert pydicom.dcmread(target).file_meta.TransferSyntaxUID.is_compressed
    assert (read_dicom(target, "a").pixels == gradient(bits=bits)).all()


def test_jpeg_baseline_is_decoded_by_pillow(tmp_path: Path) -> None:
    pixels = np.repeat(np.arange(0, 240, 6, dtype=np.uint8)[None], 24, axis=0)
    dataset = baseline(pixels)
    image = read_dicom(write(tmp_path, dataset), "a")
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    assert image.decoder == "pillow"
    assert (image.pixels == np.asarray(PIL.Image.open(stream))).all()


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (12, 4095)])
def test_monochrome1_is_inverted_over_the_stored_bits(tmp_path: Path, bits: int, top: int) -> None:
    pixels = gradient(bits=bits)
    image = read_dicom(write(tmp_path, dataset_of(pixels, bits, PhotometricInterpretation="MONOCHROME1")), "a")
    assert (image.pixels == top - pixels.astype(int)).all()


def test_only_view_sex_and_age_decade_leave_the_header(tmp_path: Path) -> None:
    header = {"ViewPosition": "PA", "PatientSex": "F", "PatientAge": "047Y", "PatientName": "Doe^Jane", "PatientID": "secret-7"}
    image = read_dicom(write(tmp_path, dataset_of(gradient(), **header)), "a")
    assert (image.view, image.sex, image.age_decade) == ("PA", "F", 40)
    assert "secret-7" not in repr(image)
    assert "Doe" not in repr(image)


def test_a_decoder_that_is_not_installed_is_absent_in_the_cache_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise dicom.importlib.metadata.PackageNotFoundError(name)

    here = dict(decoder_versions())
    monkeypatch.setattr(dicom.importlib.metadata, "version", absent)
    there = dict(dicom._decoder_versions.__wrapped__())
    assert there.keys() == here.keys()
    assert {there[name] for name in dicom._DISTRIBUTIONS} == {"absent"}


def test_every_plugin_of_the_table_has_a_version_in_the_cache_key() -> None:
    versions = decoder_versions()
    assert {"pydicom", "pillow", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pillow libjpeg"} == set(versions)
    assert all(version != "absent" and version[0].isdigit() for version in versions.values())
    assert all(plugin in versions for plugin in DECODERS.values())


# ------------------------------------------------------------------------------------------------------------ damaged files


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("make", [baseline, dataset_of], ids=["jpeg", "uncompressed"])
def test_a_cut_off_file_is_an_error_naming_file_and_id(tmp_path: Path, make: object, share: float) -> None:
    path = write(tmp_path, make(gradient(200, 300)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError) as error:
        read_dicom(path, "case-7")
    assert_named(error, path)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"PixelData": None}, "no pixel data"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"PixelRepresentation": 1}, "signed"),
        ({"BitsAllocated": 32}, "32 bits"),
    ],
)
def test_what_is_not_one_grey_radiograph_is_an_error(tmp_path: Path, header: dict, sentence: str) -> None:
    dataset = dataset_of(gradient(), **{k: v for k, v in header.items() if v is not None})
    if header.get("PixelData", ...) is None:
        del dataset.PixelData
    path = write(tmp_path, dataset)
    with pytest.raises(ImageError, match=sentence) as error:
        read_dicom(path, "case-7")
    assert_named(error, path)


@pytest.mark.parametrize("content", [b"", b"GIF89a not a DICOM file at all", bytes(4000)], ids=["empty", "text", "zeros"])
def test_bytes_that_are_not_dicom_are_never_forced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not a DICOM file") as error:
        read_dicom(path, "case-7")
    assert_named(error, path)


def test_a_header_that_is_cut_off_damaged_or_silent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    group = b"\x02\x00\x00\x00UL"
    for content, sentence in (
        (group + b"\x02\x00\x01\x00", r"the DICOM header cannot be read \(BytesLengthException\)\. Download it again"),
        (group + b"\x04\x00", "the file does not say its transfer syntax; is it a damaged copy"),
    ):
        path.write_bytes(bytes(128) + b"DICM" + content)
        with pytest.raises(ImageError, match=rf"image\.dcm \(id a\): {sentence}"):
            read_dicom(path, "a")


def with_value(path: Path, tag: tuple[int, int], value_type: bytes, value: bytes) -> Path:
    """The file with one element of the header replaced by bytes that no writer would let pass."""
    head = b"".join(number.to_bytes(2, "little") for number in tag)
    content = path.read_bytes()
    at = content.find(head + value_type)
    end = at + 8 + int.from_bytes(content[at + 6 : at + 8], "little")
    if at < 0:  # right before the pixels
        at = end = content.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[:at] + head + value_type + len(value).to_bytes(2, "little") + value + content[end:])
    return path


@pytest.mark.parametrize(
    ("tag", "value_type", "value"),
    [
        ((0x28, 0x08), b"IS", b"1\\1 "),
        ((0x28, 0x08), b"IS", b"abcdef"),
        ((0x28, 0x10), b"US", b"\x30"),
        ((0x28, 0x102), b"US", b"\x07\x00\x00"),
        ((0x28, 0x103), b"US", b"\x00"),
        ((0x28, 0x120), b"US", b"\x00"),
        ((0x6000, 0x102), b"US", b"\x00"),
    ],
)
@pytest.mark.parametrize("read", [read_dicom, read_windowed_dicom])
def test_a_damaged_value_that_pixels_depend_on_is_an_error(tmp_path: Path, read, tag, value_type: bytes, value: bytes) -> None:
    path = with_value(write(tmp_path, dataset_of(gradient(), NumberOfFrames=1)), tag, value_type, value)
    with pytest.raises(ImageError, match=r"the DICOM header cannot be read|(\[1, 1\]|abcdef) frames, expected one") as error:
        read(path, "case-7")
    assert_named(error, path)


def test_a_damaged_rescale_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, dataset_of(gradient(), RescaleSlope="1"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x28\x00\x53\x10DS", b"\x28\x00\x53\x10FD"))  # a number of eight bytes, of which there are two
    with pytest.raises(ImageError, match="its rescale or window cannot be applied"):
        read_windowed_dicom(path, "a")
    assert (read_dicom(path, "a").pixels == gradient()).all()


def test_a_damaged_view_sex_or_age_is_unknown(tmp_path: Path) -> None:
    path = write(tmp_path, dataset_of(gradient(), ViewPosition="PA", PatientSex="F", PatientAge="047Y"))
    for tag, value_type in (((0x18, 0x5101), b"CS"), ((0x10, 0x40), b"CS"), ((0x10, 0x1010), b"AS")):
        content = path.read_bytes()
        at = content.index(b"".join(number.to_bytes(2, "little") for number in tag) + value_type) + 4
        path.write_bytes(content[:at] + b"FD" + content[at + 2 :])  # numbers of eight bytes, of which there are fewer
    image = read_dicom(path, "a")
    assert (image.view, image.sex, image.age_decade) == (None, None, None)
    assert (image.pixels == gradient()).all()


def test_a_header_without_a_size_is_an_error(tmp_path: Path) -> None:
    dataset = dataset_of(gradient())
    del dataset.Rows
    path = write(tmp_path, dataset)
    with pytest.raises(ImageError, match="the header does not say the image's size; is it a damaged copy"):
        size_of_dicom(path, "a")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_dicom(tmp_path / "gone.dcm", "case-7")


def test_a_transfer_syntax_without_a_named_decoder_is_an_error(tmp_path: Path) -> None:
    dataset = baseline(gradient())
    dataset.file_meta.TransferSyntaxUID = uid.MPEG2MPML
    with pytest.raises(ImageError, match="no named decoder"):
        read_dicom(write(tmp_path, dataset), "case-7")


def test_a_decoder_that_is_not_installed_is_never_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = set(get_decoder(uid.JPEGLSLossless).missing_dependencies)
    if not missing:
        pytest.skip("every plugin for JPEG-LS is installed")
    source = write(tmp_path, dataset_of(gradient()))
    target = recompressed(source, tmp_path / "compressed.dcm", gdcm.TransferSyntax.JPEGLSLossless)
    monkeypatch.setitem(dicom.DECODERS, uid.JPEGLSLossless, "pyjpegls")
    with pytest.raises(EnvironmentProblem, match=r"pyjpegls.*lobe doctor"):
        read_dicom(target, "case-7")


def test_pillows_switch_for_cut_off_files_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, baseline(gradient()))
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(EnvironmentProblem, match="LOAD_TRUNCATED_IMAGES"):
        read_dicom(path, "case-7")


# --------------------------------------------------------------------------------------------------------------- a real file


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not beside the checkout")
def test_a_real_rsna_radiograph_decodes() -> None:
    path = next(REAL.glob("rsna_*.dcm"))
    image = read_dicom(path, path.stem)
    assert image.pixels.shape == (1024, 1024)
    assert image.pixels.dtype == np.uint8
    assert (image.view, image.sex, image.age_decade, image.decoder) == ("PA", "M", 60, "pillow")
    dataset = pydicom.dcmread(path)
    other, _ = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, decoding_plugin="pylibjpeg")
    assert abs(image.pixels.astype(int) - other).max() <= 3  # plugins differ in the last digit, which is why one is named


# ------------------------------------------------------------------------------------------------------- rescaled and windowed


def windowed(folder: Path, pixels: np.ndarray, **header: object) -> np.ndarray:
    return read_windowed_dicom(write(folder, dataset_of(pixels, 12, **header)), "a").pixels


def test_a_window_clips_and_stretches_and_does_nothing_else(tmp_path: Path) -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    shown = windowed(tmp_path, ramp, WindowCenter=1000.5, WindowWidth=1001.0).ravel()
    assert (shown[:501] == 0).all()
    assert (shown[1500:] == 65535).all()
    assert (np.diff(shown[500:1501].astype(int)) > 0).all()
    assert shown[1000] == pytest.approx(65535 / 2, abs=1)


def test_without_a_window_all_grey_levels_keep_their_order_and_proportion(tmp_path: Path) -> None:
    pixels = gradient(bits=12)
    shown = windowed(tmp_path, pixels).astype(float)
    low, high = float(pixels.min()), float(pixels.max())
    assert np.abs(shown - (pixels - low) / (high - low) * 65535).max() <= 0.5


def test_the_window_applies_to_rescaled_values(tmp_path: Path) -> None:
    pixels = gradient(bits=12)
    plain = windowed(tmp_path, pixels, WindowCenter=1000.0, WindowWidth=800.0)
    rescaled = windowed(tmp_path, pixels, RescaleSlope=2.0, RescaleIntercept=-500.0, WindowCenter=1499.5, WindowWidth=1599.0)
    assert np.abs(plain.astype(int) - rescaled.astype(int)).max() <= 1


def test_the_first_of_several_windows_is_taken(tmp_path: Path) -> None:
    pixels = gradient(bits=12)
    one = windowed(tmp_path, pixels, WindowCenter=1000.0, WindowWidth=800.0)
    two = windowed(tmp_path, pixels, WindowCenter=[1000.0, 3000.0], WindowWidth=[800.0, 100.0])
    assert (one == two).all()


def test_inversion_comes_after_the_window(tmp_path: Path) -> None:
    pixels = gradient(bits=12)
    header = {"WindowCenter": 1000.0, "WindowWidth": 800.0}
    upright = windowed(tmp_path, pixels, **header)
    inverted = windowed(tmp_path, pixels, PhotometricInterpretation="MONOCHROME1", **header)
    assert (inverted == 65535 - upright).all()
    assert inverted.dtype == np.uint16


@pytest.mark.parametrize("header", [{"WindowCenter": 9000.0, "WindowWidth": 10.0}, {"WindowCenter": 100.0, "WindowWidth": 0.0}])
def test_a_window_that_shows_nothing_is_an_error_and_not_a_black_image(tmp_path: Path, header: dict[str, float]) -> None:
    with pytest.raises(ImageError, match="window"):
        windowed(tmp_path, gradient(bits=12), **header)


def test_an_even_image_stays_even(tmp_path: Path) -> None:
    assert (windowed(tmp_path, np.full((8, 9), 700, np.uint16)) == 0).all()


def test_a_rescale_beyond_all_numbers_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, dataset_of(gradient(), RescaleSlope="1e308", RescaleIntercept="0"))
    with pytest.raises(ImageError, match=r"its rescale or window gives values that are not numbers\. Is this an edited copy"):
        read_windowed_dicom(path, "a")


def test_the_size_is_read_from_the_header(tmp_path: Path) -> None:
    assert size_of_dicom(write(tmp_path, dataset_of(gradient())), "a") == (48, 72)


# ---------------------------------------------------------------------------------------------------------- cells and padding


def smooth(bits: int = 12) -> np.ndarray:
    """A ramp across all grey levels, as smooth as a radiograph."""
    rows, columns = np.mgrid[0:64, 0:96]
    return ((rows + columns) * ((1 << bits) - 1) // (63 + 95)).astype(np.uint16)


def in_cells(cells: np.ndarray, *, compressed: bool, **header: object) -> pydicom.Dataset:
    """16-bit cells of any content under a header that says otherwise."""
    dataset = dataset_of(cells, 16)
    if compressed:
        dataset.compress(uid.JPEG2000Lossless, encoding_plugin="pylibjpeg")
    for name, value in header.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize("compressed", [False, True])
def test_values_at_the_upper_end_of_their_cells_are_shifted(tmp_path: Path, compressed: bool) -> None:
    pixels = smooth()
    dataset = in_cells(pixels << 4, compressed=compressed, BitsStored=12, HighBit=15)
    assert (read_dicom(write(tmp_path, dataset), "a").pixels == pixels).all()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("declared", [False, True])
def test_an_overlay_above_the_value_is_masked_in_every_syntax(tmp_path: Path, compressed: bool, declared: bool) -> None:
    pixels = smooth()
    cells = pixels.copy()
    cells[10:30, 20:70] |= 1 << 12
    dataset = in_cells(cells, compressed=compressed, BitsStored=12, HighBit=11)
    if declared:
        dataset.add_new((0x6000, 0x0102), "US", 12)
    assert (read_dicom(write(tmp_path, dataset), "a").pixels == pixels).all()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 11])
def test_too_few_stored_bits_for_the_values_are_an_error(tmp_path: Path, compressed: bool, bits: int) -> None:
    path = write(tmp_path, in_cells(smooth(), compressed=compressed, BitsStored=bits, HighBit=bits - 1))
    with pytest.raises(ImageError, match=f"up to 4,095, which do not fit the {bits} bits"):
        read_dicom(path, "case-7")


@pytest.mark.parametrize(
    "header", [{"BitsStored": 12, "HighBit": 15}, {"BitsStored": 12, "HighBit": 7}, {"BitsStored": 0}, {"BitsStored": 12, "HighBit": 16}]
)
def test_bits_that_the_pixels_contradict_are_an_error(tmp_path: Path, header: dict) -> None:
    path = write(tmp_path, in_cells(smooth(), compressed=False, **header))
    with pytest.raises(ImageError) as error:
        read_dicom(path, "case-7")
    assert_named(error, path)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_no_value_leaves_the_stored_bits(tmp_path: Path, kind: str) -> None:
    cells = smooth()
    cells[10:30, 20:70] |= 1 << 13
    dataset = in_cells(cells, compressed=True, BitsStored=12, HighBit=11, PhotometricInterpretation=kind)
    assert read_dicom(write(tmp_path, dataset), "a").pixels.max() < 1 << 12


@pytest.mark.parametrize("read", [read_dicom, read_windowed_dicom])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("value", [0, 4095, 65535])
def test_padding_is_dark_and_stretches_nothing(tmp_path: Path, read: object, kind: str, value: int) -> None:
    pixels = smooth() // 2 + 900
    header = {"PhotometricInterpretation": kind}
    plain = read(write(tmp_path, dataset_of(pixels, 12, **header)), "a").pixels
    padded = pixels.copy()
    padded[:, :7] = value
    found = read(write(tmp_path, dataset_of(padded, 12, PixelPaddingValue=value, **header)), "a").pixels
    cropped = read(write(tmp_path, dataset_of(np.ascontiguousarray(pixels[:, 7:]), 12, **header)), "a").pixels
    assert (found[:, :7] == found.min()).all()
    assert (found[:, 7:] == cropped).all()
    assert found.dtype == plain.dtype


def test_a_padding_value_that_no_pixel_has_changes_nothing(tmp_path: Path) -> None:
    pixels = smooth() // 2 + 900
    plain = read_windowed_dicom(write(tmp_path, dataset_of(pixels, 12)), "a").pixels
    assert (read_windowed_dicom(write(tmp_path, dataset_of(pixels, 12, PixelPaddingValue=0)), "a").pixels == plain).all()


@pytest.mark.parametrize("bits", [8, 12])
def test_big_endian_pixels_come_back_in_native_order(tmp_path: Path, bits: int) -> None:
    pixels = gradient(bits=bits)
    dataset = dataset_of(pixels.astype(pixels.dtype.newbyteorder(">")), bits, uid.ExplicitVRBigEndian)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    path = tmp_path / "image.dcm"
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False, enforce_file_format=True)
    image = read_dicom(path, "a")
    assert (image.pixels == pixels).all()
    assert image.pixels.dtype.isnative


@pytest.mark.parametrize(
    "names",
    [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",), ("WindowCenter", "WindowWidth"), ("VOILUTFunction",)],
)
def test_empty_tags_count_as_absent(tmp_path: Path, names: tuple[str, ...]) -> None:
    pixels = gradient(bits=12)
    assert (windowed(tmp_path, pixels, **dict.fromkeys(names, "")) == windowed(tmp_path, pixels)).all()
