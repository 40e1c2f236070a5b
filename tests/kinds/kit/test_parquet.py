"""A file of columns may come from anywhere: what it is not and lacks are sentences, and what it would decode to is looked at first."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.cards import SCHEMA_VERSION
from benchmark.errors import UsageError
from benchmark.kinds.kit import parquet
from benchmark.metrics.columns import Lists

N = parquet.ROWS + 44  # two groups of rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "columns.parquet"


@pytest.fixture
def written(path: Path) -> tuple[Path, Lists]:
    """A file with a column of each form, in two groups of rows."""
    drawn = np.random.default_rng(0)
    counts = drawn.integers(0, 4, N)
    lists = Lists(counts, drawn.random(counts.sum()).astype(np.float32))
    codes = Lists(np.full(N, 2), pa.array([f"{k}".encode() for k in range(2 * N)], pa.binary()))
    columns = {"id": pa.array([f"image {k}" for k in range(N)]), "x": lists, "code": codes, "size": np.arange(N)}
    parquet.save(path, columns, {"split": "lovt", "split_rule": "r"})
    return path, lists


def said_of(path: Path) -> list[str]:
    """Reads a file by every method; gives the sentences."""
    said = []

    def hear(read, *given: str) -> None:
        try:
            read(*given)
        except UsageError as error:
            said.append(str(error))

    def every_column() -> None:
        with parquet.opened(path) as file:
            for read in (file.texts, file.optional_texts, file.values, file.numbers, file.codes, file.column):
                for name in file.names:
                    hear(read, name)

    hear(every_column)
    hear(parquet.names_in, path)
    return said


def test_columns_come_back_whole_or_for_some_images(written):
    path, lists = written
    with parquet.opened(path) as file:
        assert (file.n_images, file.ids[-1], file.header["split"]) == (N, f"image {N - 1}", "lovt")
        found = file.numbers("x")
        assert (found.counts.tolist(), found.values.tolist()) == (lists.counts.tolist(), lists.values.tolist())
        wanted = [N - 1, 3, parquet.ROWS, 3]
        some = file.numbers("x", wanted)
        each = [lists.values[lists.first[k] : lists.first[k] + lists.counts[k]] for k in wanted]
        assert some.values.tolist() == np.concatenate(each).tolist()
        assert file.codes("code", wanted)[2] == [f"{2 * parquet.ROWS}".encode(), f"{2 * parquet.ROWS + 1}".encode()]
        assert len(file.codes("code")) == N
        assert file.values("size").tolist() == list(range(N))
    assert parquet.made_for(path) == ("lovt", "r")
    assert parquet.names_in(path) >= {"image 0", f"image {N - 1}"}


def test_only_the_groups_with_wanted_images_are_read(written, monkeypatch):
    path, _ = written
    read: list[int] = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, k, *a, **o: (read.append(k), real(self, k, *a, **o))[1])
    with parquet.opened(path) as file:
        file.numbers("x", [parquet.ROWS + 1])
    assert read == [1]


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\0" * 50 + b"PAR1", b"{}", b"PAR1\xff\xff\xff\x7fPAR1", b"PARE" * 9]
)
def test_what_is_no_such_file_is_a_sentence(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"Cannot read .*columns\.parquet: .*whole Parquet file"), parquet.opened(path):
        pass


def test_a_file_cut_anywhere_or_with_any_byte_changed_is_read_or_a_sentence(written, path: Path):
    whole = written[0].read_bytes()
    sound = len(said_of(path))  # columns of another kind than a method reads
    drawn, damaged = random.Random(3), 0
    for _ in range(40):
        broken = bytearray(whole[: drawn.randrange(1, len(whole))] if drawn.random() < 0.3 else whole)
        for _ in range(drawn.randrange(1, 4)):
            broken[drawn.randrange(len(broken))] = drawn.randrange(256)
        path.write_bytes(broken)
        said = said_of(path)
        assert all(str(path) in sentence for sentence in said)
        damaged += len(said) != sound
    assert damaged > 10


def test_a_newer_form_says_so(path: Path):
    pq.write_table(pa.table({"id": ["a"]}).replace_schema_metadata({"schema_version": str(SCHEMA_VERSION + 1)}), path)
    with (
        pytest.raises(UsageError, match=rf"written by a newer LOBE \(schema {SCHEMA_VERSION + 1} > {SCHEMA_VERSION}\); update"),
        parquet.opened(path),
    ):
        pass


@pytest.mark.parametrize("version", ["x", "-1", "9" * 5000, ""])
def test_a_version_that_is_no_number_is_a_sentence(path: Path, version: str):
    pq.write_table(pa.table({"id": ["a"]}).replace_schema_metadata({"schema_version": version}), path)
    with pytest.raises(UsageError, match="is no number"), parquet.opened(path):
        pass


@pytest.mark.parametrize(
    ("column", "read", "sentence"),
    [
        (pa.array([1, 2]), "texts", "its column 'c' holds int64, expected a text for each image"),
        (pa.array([["a"], ["b"]]), "texts", "expected a text for each image"),
        (pa.array(["a", None]), "texts", "row 2: its c is missing"),
        (pa.array([b"\xff", b"a"]).cast(pa.binary()), "texts", "expected a text"),
        (pa.array(["a", "b"]), "values", "holds .*, expected a number for each image"),
        (pa.array([1.0, None]), "values", r"row 2 \(two\): its c is missing"),
        (pa.array([[1.0], None]), "numbers", r"row 2 \(two\): its c is missing"),
        (pa.array([[1.0], [2.0, None]]), "numbers", r"row 2 \(two\): a value of its c is missing"),
        (pa.array([["a"], ["b"]]), "numbers", "expected a list of numbers"),
        (pa.array([1.0, 2.0]), "numbers", "holds double, expected a list of numbers"),
        (pa.array([[[1.0]], [[2.0]]]), "numbers", "expected a list of numbers"),
        (pa.array([{"x": 1.0}, {"x": 2.0}]), "numbers", "expected a list of numbers"),
        (pa.array([[1.0], [2.0]]), "codes", "expected a list of byte strings"),
        (pa.array([[b"a"], [None]]), "codes", r"row 2 \(two\): a value of its c is missing"),
        (pa.nulls(2), "numbers", "holds null, expected a list of numbers"),
    ],
)
def test_a_column_of_another_kind_is_named_and_so_is_the_row_of_what_is_missing(path: Path, column, read: str, sentence: str):
    pq.write_table(pa.table({"id": ["one", "two"], "c": column}), path)
    with parquet.opened(path) as file, pytest.raises(UsageError, match=sentence):
        getattr(file, read)("c")


def test_a_column_that_is_not_there_or_there_twice_is_named(path: Path):
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["id", "id"]), path)
    with parquet.opened(path) as file:
        with pytest.raises(UsageError, match="has 2 columns 'id'"):
            file.texts("id")
        with pytest.raises(UsageError, match="has no column 'x'; it has 'id', 'id'"):
            file.numbers("x")


def test_lists_of_any_width_and_numbers_of_any_width_are_taken(path: Path):
    columns = {
        "id": pa.array(["a", "b"], pa.large_string()),
        "large": pa.array([[1.5], [2.5]], pa.large_list(pa.float64())),
        "fixed": pa.array([[1.5], [2.5]], pa.list_(pa.float32(), 1)),
        "half": pa.array([[1.5], [2.5]], pa.list_(pa.float16())),
        "small": pa.array([[1], [2]], pa.list_(pa.uint8())),
    }
    pq.write_table(pa.table(columns), path, compression="gzip", row_group_size=1)
    with parquet.opened(path) as file:
        assert file.ids == ("a", "b")
        assert [file.numbers(name).values.tolist() for name in ("large", "fixed", "half", "small")] == [[1.5, 2.5]] * 3 + [[1, 2]]


def test_a_small_file_that_would_fill_the_memory_is_refused_before_it_is_decoded(path: Path, monkeypatch):
    many = pa.ListArray.from_arrays(pa.array([0, 10**6], pa.int32()), pa.array(np.zeros(10**6)))
    pq.write_table(pa.table({"id": ["a"], "x": many}), path)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(parquet, "MOST_SMALL", 2**20)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a, **o: pytest.fail("it was decoded"))
    with pytest.raises(UsageError, match=r"would decode to .* GB, far more than its size tells of"), parquet.opened(path):
        pass


def test_one_long_text_that_is_repeated_is_refused_before_there_is_a_copy_of_each(path: Path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_SMALL", 2**20)
    monkeypatch.setattr(parquet, "MOST_FOLD", 1)
    pq.write_table(pa.table({"id": ["x" * 10_000] * 1_000, "code": [[b"y" * 10_000]] * 1_000}), path)
    with parquet.opened(path) as file:
        for read in (lambda: file.ids, lambda: file.codes("code")):
            with pytest.raises(UsageError, match="would decode to"):
                read()


def test_texts_that_are_no_utf8_are_a_sentence(path: Path):
    pq.write_table(pa.table({"id": pa.array([b"\xff\xfe", b"a"], pa.binary()).cast(pa.string(), safe=False)}), path)
    with parquet.opened(path) as file, pytest.raises(UsageError, match="Cannot read"):
        file.texts("id")


def test_what_is_written_is_the_same_bytes_each_time(path: Path):
    columns = {"id": pa.array(["a"]), "x": Lists(np.array([2]), np.array([1.5, 2.5], np.float32))}
    parquet.save(path, columns, {"key": "k"})
    first = path.read_bytes()
    parquet.save(path, columns, {"key": "k"})
    assert path.read_bytes() == first


def test_columns_of_a_large_file_are_read_one_by_one_all_the_same(written, monkeypatch):
    path, _ = written
    monkeypatch.setattr(parquet, "MOST_LOADED", 0)
    with parquet.opened(path) as file:
        file.load(["id", "size"])
        assert file._loaded == {}
        assert file.values("size").tolist() == list(range(N))


def test_texts_are_counted_with_and_without_a_table_of_different_ones():
    texts = pa.array(["ab", "c", None, "ab"])
    assert parquet._text_bytes(texts) == parquet._text_bytes(texts.dictionary_encode()) == 5
