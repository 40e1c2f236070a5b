"""A release appears in the data folder whole, or not at all; what cannot be downloaded is a list of steps."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from benchmark import registry
from benchmark.cards import ReleaseCard, ReleaseFile
from benchmark.errors import DataError, UsageError
from benchmark.fetching.releases import RECORD, WORK, get, steps_of
from benchmark.fetching.transfer import FetchError
from tests.fetching.server import FaultyServer, Served


def archive(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return held.getvalue()


REPOSITORY = archive({"repo-master/covid_rural_annot/jpgs/a.jpg": b"j" * 5000, "repo-master/covid_rural_annot/pngs_masks/a.png": b"m"})


@pytest.fixture
def release(server: FaultyServer, monkeypatch: pytest.MonkeyPatch):
    """COVID Rural's release on the local server: an archive, and a table beside it."""
    server.files |= {"/repo.zip": Served(REPOSITORY), "/notes.csv": Served(b"id\n1\n", kind="text/csv")}
    card = ReleaseCard(
        name="covid-rural",
        page="https://example.org/covid",
        files=(
            ReleaseFile(name="repo.zip", url=f"{server.url}/repo.zip", strip=1),
            ReleaseFile(name="notes.csv", url=f"{server.url}/notes.csv", into="covid_rural_annot"),
        ),
    )
    monkeypatch.setitem(registry.releases(), "covid-rural", card)
    return card


@contextlib.contextmanager
def quiet(_title: str):
    yield lambda done, total: None


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


WHOLE = {"covid_rural_annot/jpgs/a.jpg", "covid_rural_annot/pngs_masks/a.png", "covid_rural_annot/notes.csv"}


def test_archives_and_files_of_a_release_appear_in_its_folder(release: ReleaseCard, tmp_path: Path):
    (got,) = get(["covid-rural"], tmp_path, quiet)
    assert (got.state, got.n_files, got.steps) == ("fetched", 3, ())
    assert files_in(tmp_path / "covid-rural") == WHOLE
    assert sum("digest not known; recorded on this first download: sha256:" in note for note in got.notes) == 2
    left = files_in(tmp_path / WORK)
    assert left - {"covid-rural/.lock"} == {RECORD}
    (again,) = get(["covid-rural"], tmp_path, quiet)
    assert again.state == "there"


def test_a_broken_transfer_leaves_no_folder_and_the_same_command_goes_on(release: ReleaseCard, server: FaultyServer, tmp_path: Path):
    server.files["/notes.csv"].status = 403
    with pytest.raises(FetchError, match="is refused"):
        get(["covid-rural"], tmp_path, quiet)
    assert not (tmp_path / "covid-rural").exists()
    server.files["/notes.csv"].status = 200
    server.asked.clear()
    assert get(["covid-rural"], tmp_path, quiet)[0].state == "fetched"
    assert server.ranges_of("/repo.zip") == [], "what was whole is not fetched again"
    assert files_in(tmp_path / "covid-rural") == WHOLE


def test_an_archive_that_leads_out_leaves_nothing(release: ReleaseCard, server: FaultyServer, tmp_path: Path):
    server.files["/repo.zip"] = Served(archive({"repo-master/a": b"a", "repo-master/../../../evil": b"x"}))
    with pytest.raises(DataError, match="leads out of the folder"):
        get(["covid-rural"], tmp_path / "data", quiet)
    assert not (tmp_path / "data" / "covid-rural").exists()
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "data" / WORK / "covid-rural" / "repo.zip").exists(), "it would be unpacked again for ever"


def test_what_is_called_an_archive_and_is_none_is_refused(release: ReleaseCard, server: FaultyServer, tmp_path: Path):
    server.files["/repo.zip"] = Served(b"quota exceeded")
    with pytest.raises(DataError, match=r"no archive, though it is called repo\.zip"):
        get(["covid-rural"], tmp_path, quiet)


def test_a_later_download_is_held_to_the_digest_of_the_first(release: ReleaseCard, server: FaultyServer, tmp_path: Path):
    get(["covid-rural"], tmp_path, quiet)
    (tmp_path / "covid-rural").rename(tmp_path / "elsewhere")
    (again,) = get(["covid-rural"], tmp_path, quiet, keep=True)
    assert sum("the same as the first download here" in note for note in again.notes) == 2
    assert {"covid-rural/repo.zip", "covid-rural/notes.csv"} <= files_in(tmp_path / WORK)
    (tmp_path / "covid-rural").rename(tmp_path / "third")
    for name in ("repo.zip", "notes.csv"):
        (tmp_path / WORK / "covid-rural" / name).unlink()
    server.files["/notes.csv"] = Served(b"id\n2\n", kind="text/csv")
    with pytest.raises(FetchError, match="its publisher has changed it, or it was altered on the way"):
        get(["covid-rural"], tmp_path, quiet)


def test_a_second_command_in_the_same_folder_is_refused(release: ReleaseCard, tmp_path: Path):
    from filelock import FileLock

    (tmp_path / WORK / "covid-rural").mkdir(parents=True)
    with FileLock(tmp_path / WORK / "covid-rural" / ".lock"), pytest.raises(UsageError, match="Another command fetches into"):
        get(["covid-rural"], tmp_path, quiet)


def test_a_release_by_hand_is_numbered_steps_and_a_transfer_is_both_of_its_parts(tmp_path: Path):
    found = get(["rsna", "rsna-plain", "siim-to-candid-ptx"], tmp_path, quiet)
    assert [(one.name, one.state) for one in found] == [("rsna", "by hand"), ("siim", "by hand"), ("candid-ptx", "by hand")]
    assert all(str(tmp_path / one.name) in one.steps[-1] for one in found)
    assert list(tmp_path.iterdir()) == []


def test_every_release_says_how_it_is_had():
    folders = {card.folder for card in registry.datasets().values() if not card.parts}
    assert folders == set(registry.releases())
    for card in registry.releases().values():
        by_terms = {one.terms for one in registry.datasets().values() if one.folder == card.name}
        assert not card.files or by_terms == {"download"}, f"{card.name} needs an account, and has addresses"
        assert all(file.url.startswith("https://") for file in card.files)
        assert card.files or len(card.steps) > 1


def test_a_dataset_of_ones_own_has_steps_after_its_card(tmp_path: Path):
    steps = steps_of(registry.dataset("vindr-cxr"), None, tmp_path)
    assert steps[0] == "Go to its publisher: PhysioNet, vindr-cxr 1.0.0; credentialed access."
    assert steps[1].startswith("Sign the agreement")


@pytest.mark.parametrize("fields", [{"name": "../x"}, {"name": ".hidden"}, {"into": "../x"}, {"into": "/x"}])
def test_a_card_cannot_name_a_place_outside(fields: dict[str, str]):
    with pytest.raises(ValidationError, match=r"one file name|below the release"):
        ReleaseFile(**{"name": "a.zip", "url": "https://example.org/a.zip", **fields})
