"""Footers are read as pyarrow reads them, and anything else is one kind of error."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.kinds.kit import parquet_footer


def written(path: Path) -> Path:
    table = pa.table({"id": ["a", "b", "c"], "x": [[1.0, 2.0], [], [3.0]], "n": [1, 2, 3], "yes": [True, False, True], "code": [b"1"] * 3})
    fixed = pa.array([b"abc"] * 3, pa.binary(3))
    table = table.append_column("fixed", fixed).replace_schema_metadata({"split": "lovt", "long": "x" * 300})
    pq.write_table(table, path, row_group_size=2)
    return path


def framed(footer: bytes) -> bytes:
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def read(path: Path, content: bytes) -> parquet_footer.Footer:
    path.write_bytes(content)
    with path.open("rb") as handle:
        return parquet_footer.read(handle)


def test_a_footer_says_what_pyarrow_reads_of_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    found, known = read(path, path.read_bytes()), pq.read_metadata(path)
    assert found.rows == tuple(known.row_group(k).num_rows for k in range(known.num_row_groups)) == (2, 1)
    assert {name: text for name, text in found.header.items() if name != "ARROW:schema"} == {"split": "lovt", "long": "x" * 300}
    assert found.texts == ("id", "code")
    # Per row: 4 for each text's length, 8, 1, 3 bytes; and of x, a double for each value or empty list.
    assert found.decoded_bytes == 3 * (4 + 4 + 8 + 1 + 3) + 8 * 4


@given(footer=st.binary(max_size=200))
def test_any_bytes_for_a_footer_are_one_kind_of_error(tmp_path_factory, footer: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    with pytest.raises(ValueError, match=r"footer|another file"):
        read(path, framed(footer))


def test_a_footer_that_is_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.parquet").read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    footer = whole[-8 - length : -8]
    for end in range(0, length - 1, 7):
        with pytest.raises(ValueError, match="footer"):
            read(tmp_path / "a.parquet", framed(footer[:end]))


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", b"PAR1\0\0\0\0PARE", b"PAR1\xff\xff\xff\x7fPAR1"])
def test_without_a_footer_there_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match="it has no footer"):
        read(tmp_path / "a.parquet", content)


@pytest.mark.parametrize("nested", [b"\x1c" * 5_000, b"\x19" + b"\x19" * 5_000], ids=["structs", "lists"])
def test_footers_nested_without_end_are_an_error(tmp_path: Path, nested: bytes) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        read(tmp_path / "a.parquet", framed(nested))


def test_a_column_that_lies_in_another_file_is_not_followed(tmp_path: Path) -> None:
    known = pq.read_metadata(written(tmp_path / "a.parquet"))
    known.set_file_path("/etc/passwd")
    buffer = io.BytesIO()
    known.write_metadata_file(buffer)
    with pytest.raises(ValueError, match="lies in another file"):
        read(tmp_path / "a.parquet", buffer.getvalue())


@pytest.mark.parametrize(
    "found",
    [
        {2: [{}], 3: 3, 4: [{3: 2}]},  # rows that do not add up
        {2: [], 3: 0, 4: []},
        {2: [{}], 3: -1, 4: [{3: -1}]},
        {2: [{}], 3: 1, 4: [{3: 1, 1: [{3: {1: 99, 3: [b"x"], 5: 1}}]}]},  # a kind of number that is none
        {2: [{}], 3: 1, 4: [{3: 1, 1: [{3: {1: 1, 3: [b"x"], 5: -1}}]}]},
    ],
)
def test_a_footer_that_contradicts_itself_is_an_error(found: dict) -> None:
    with pytest.raises(ValueError, match="its footer contradicts itself"):
        parquet_footer._footer(found)


def test_a_number_without_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        parquet_footer._Reader(b"\xff" * 20).natural()
