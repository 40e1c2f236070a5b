"""A card's weights file comes into the cache, whole and as its card says, and the card then goes by its bare name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from benchmark import registry, resolve
from benchmark.cards import BackboneCard, PublishedFile
from benchmark.encoders import kept_weights
from benchmark.encoders.naming import parse
from benchmark.errors import CheckpointError, UnknownName, UsageError
from benchmark.fetching.hub import HUB, _no_answer
from benchmark.fetching.transfer import FetchError
from benchmark.fetching.weights import get_weights
from tests.fetching.server import FaultyServer, Served
from tests.full_disk import full_disk

CONTENT = b"weights " * 5000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
COMMIT = "c" * 40


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch):
    """Puts a card of one's own into the registry."""

    def add(published: PublishedFile | None, digest: str = "", name: str = "mine", **more) -> BackboneCard:
        made = BackboneCard(
            name=name, family="timm", model="resnet10t", layout="timm", weights="mine.pth", digest=digest, published=published, **more
        )
        monkeypatch.setitem(registry.backbones(), name, made)
        return made

    return add


def test_a_file_at_an_address_makes_its_card_usable_without_a_file(server: FaultyServer, card, tmp_path: Path):
    server.files["/mine.pth"] = Served(CONTENT, cuts=[1000])
    card(PublishedFile(url=f"{server.url}/mine.pth"), DIGEST)
    with pytest.raises(UsageError, match="or get it: lobe weights get mine"):
        parse("mine", tmp_path)
    got = get_weights("mine", tmp_path)
    assert (got.state, got.digest, got.notes) == ("fetched", DIGEST, ())
    assert got.path.read_bytes() == CONTENT
    assert server.ranges_of("/mine.pth") == ["", "bytes=1000-"]
    assert parse("mine", tmp_path).weights == got.path
    assert sorted(path.name for path in got.path.parent.iterdir()) == ["mine.pth", "mine.pth.json"]
    assert json.loads(got.path.with_name("mine.pth.json").read_text())["from"] == f"{server.url}/mine.pth"
    server.files.clear()
    assert get_weights("mine", tmp_path).state == "there"


def test_a_file_in_the_cache_that_was_edited_is_refused(server: FaultyServer, card, tmp_path: Path):
    server.files["/mine.pth"] = Served(CONTENT)
    card(PublishedFile(url=f"{server.url}/mine.pth"), DIGEST)
    get_weights("mine", tmp_path).path.write_bytes(CONTENT + b"!")
    with pytest.raises(CheckpointError, match="it was edited or cut short"):
        resolve.backbone("mine", tmp_path)


def test_a_kept_file_is_held_to_a_digest_of_either_kind(card, tmp_path: Path):
    """BioViL's files are published with an MD5 alone."""
    digest = hashlib.md5(CONTENT).hexdigest()
    place = kept_weights.place_of(card(PublishedFile(page="https://example.org"), f"md5:{digest}"), tmp_path)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert resolve.backbone("mine", tmp_path).named.ref.digest == DIGEST.removeprefix("sha256:")
    place.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(CheckpointError, match=rf"mine\.pth has MD5 \w{{12}}…, and the file of mine has {digest[:12]}…: it was edited"):
        resolve.backbone("mine", tmp_path)


@pytest.mark.parametrize(
    ("served", "sentence"),
    [
        (Served(CONTENT[:-1]), "it was replaced at its source, or altered on the way. It was deleted"),
        (Served(status=403), "it needs an account or an agreement"),
        (Served(b"<html>", kind="text/html"), r"a web page instead of mine\.pth"),
    ],
    ids=["digest", "403", "html"],
)
def test_a_fault_leaves_the_card_without_a_file(server: FaultyServer, card, tmp_path: Path, served: Served, sentence: str):
    server.files["/mine.pth"] = served
    made = card(PublishedFile(url=f"{server.url}/mine.pth"), DIGEST)
    with pytest.raises(FetchError, match=sentence):
        get_weights("mine", tmp_path)
    assert kept_weights.kept(made, tmp_path) is None


def hub(server: FaultyServer, revision: str, served: Served) -> None:
    """Serves a repository's file as the hub does: the revision's metadata first, then the file at its commit."""
    served.commit, served.tag = COMMIT, f'"{hashlib.sha256(served.content).hexdigest()}"'
    for at in {revision, COMMIT}:
        server.files[f"/owner/name/resolve/{at}/mine.pth"] = served


@pytest.mark.usefixtures("hub_online")
def test_a_file_on_the_hub_comes_at_its_pinned_revision(server: FaultyServer, card, tmp_path: Path):
    hub(server, "v1.0", Served(CONTENT))
    card(PublishedFile(hub="owner/name", revision="v1.0"), DIGEST)
    got = get_weights("mine", tmp_path)
    assert got.path.read_bytes() == CONTENT
    assert server.asked[0][:2] == ("HEAD", "/owner/name/resolve/v1.0/mine.pth")
    assert f"owner/name at {COMMIT}" in got.path.with_name("mine.pth.json").read_text()
    assert got.notes == ()
    assert sorted(path.name for path in got.path.parent.iterdir()) == ["mine.pth", "mine.pth.json"]


@pytest.mark.usefixtures("hub_online")
def test_a_revision_that_nobody_knows_is_told_with_its_commit(server: FaultyServer, card, tmp_path: Path):
    hub(server, "main", Served(CONTENT))
    card(PublishedFile(hub="owner/name"))
    assert get_weights("mine", tmp_path).notes == (f"Revision not known to the card: what the main branch holds now, {COMMIT}.",)


@pytest.mark.usefixtures("hub_online")
def test_another_file_on_the_hub_is_deleted(server: FaultyServer, card, tmp_path: Path):
    hub(server, "v1.0", Served(CONTENT + b"!"))
    made = card(PublishedFile(hub="owner/name", revision="v1.0"), DIGEST)
    with pytest.raises(FetchError, match=f"owner/name at {COMMIT} gave a file with sha256:"):
        get_weights("mine", tmp_path)
    assert kept_weights.kept(made, tmp_path) is None
    assert not list(tmp_path.rglob("mine.pth"))


@pytest.mark.usefixtures("hub_online")
@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"X-Error-Code": "GatedRepo"}, "is behind terms. 1. Log in there with a free account"),
        ({"X-Error-Code": "EntryNotFound"}, r"has no file mine\.pth at v1\.0"),
        ({"X-Error-Code": "RevisionNotFound"}, r"has no revision v1\.0: it was withdrawn or renamed"),
        ({"X-Error-Code": "RepoNotFound"}, "There is no repository .*/owner/name, or it is private"),
        ({}, "did not give the file"),
    ],
    ids=["gated", "entry", "revision", "repository", "other"],
)
def test_what_the_hub_refuses_is_a_sentence(server: FaultyServer, card, tmp_path: Path, headers: dict[str, str], sentence: str):
    status = {"GatedRepo": 403, "RepoNotFound": 401}.get(headers.get("X-Error-Code", ""), 404 if headers else 400)
    server.files["/owner/name/resolve/v1.0/mine.pth"] = Served(status=status, headers=headers)
    card(PublishedFile(hub="owner/name", revision="v1.0"), DIGEST)
    with pytest.raises(FetchError, match=sentence):
        get_weights("mine", tmp_path)


def test_offline_mode_keeps_from_the_hub_and_says_what_to_unset(
    server: FaultyServer, card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    made = card(PublishedFile(hub="owner/name", revision="v1.0"), DIGEST)
    with pytest.raises(FetchError, match=r"was not asked for mine\.pth: HF_HUB_OFFLINE .*Unset it .*--file"):
        get_weights("mine", tmp_path)
    assert server.asked == []
    assert kept_weights.kept(made, tmp_path) is None


def test_a_hub_behind_a_proxy_that_is_not_there_is_told_with_the_proxy(server: FaultyServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    said = _no_answer(f"{HUB}/a/b", OSError("refused"))
    assert said.startswith(
        "https://huggingface.co/a/b did not give the file (refused), asked through the proxy http://127.0.0.1:9 of HTTPS"
    )


def test_what_is_had_by_hand_is_steps_and_the_given_file_is_held_to_its_digest(card, tmp_path: Path):
    card(PublishedFile(page="https://example.org/weights"), DIGEST, licence="MIT")
    got = get_weights("mine", tmp_path / "cache")
    assert (got.state, got.path) == ("by hand", None)
    assert got.steps[0] == "Open https://example.org/weights and find the file mine.pth. Terms: MIT."
    assert got.steps[2].startswith("lobe weights get mine --file PATH")
    downloaded = tmp_path / "download.pth"
    downloaded.write_bytes(CONTENT[:-5])
    with pytest.raises(CheckpointError, match=r"a download that was cut short. Nothing was copied"):
        get_weights("mine", tmp_path / "cache", downloaded)
    downloaded.write_bytes(CONTENT)
    got = get_weights("mine", tmp_path / "cache", downloaded)
    assert (got.state, got.notes) == ("given", ())
    assert parse("mine", tmp_path / "cache").weights == got.path
    assert downloaded.exists()


def test_a_given_file_of_an_unknown_digest_is_taken_and_said_to_be_so(card, tmp_path: Path):
    card(None, origin="a link in a mail")
    assert "Find (a link in a mail) the file mine.pth" in get_weights("mine", tmp_path / "cache").steps[0]
    (tmp_path / "f").write_bytes(CONTENT)
    got = get_weights("mine", tmp_path / "cache", tmp_path / "f")
    assert got.notes == ("Digest not known to the card: whether this is the published file nobody can tell.",)
    with pytest.raises(UsageError, match="there is no such file"):
        get_weights("mine", tmp_path / "cache", tmp_path / "absent")


def test_a_full_disk_keeps_no_copy_of_a_given_file(card, tmp_path: Path):
    made = card(None, DIGEST)
    (tmp_path / "f").write_bytes(CONTENT)
    with full_disk(), pytest.raises(FetchError, match="No room left for f in"):
        get_weights("mine", tmp_path / "cache", tmp_path / "f")
    assert kept_weights.kept(made, tmp_path / "cache") is None


def test_cards_of_one_published_file_share_it_and_others_of_its_name_do_not(card, tmp_path: Path):
    (tmp_path / "f").write_bytes(CONTENT)
    card(None, origin="none released", name="one")
    card(None, origin="none released", name="other")
    get_weights("one", tmp_path / "cache", tmp_path / "f")
    with pytest.raises(UsageError):
        parse("other", tmp_path / "cache")
    cards = registry.backbones()
    assert kept_weights.place_of(cards["gloria"], tmp_path) == kept_weights.place_of(cards["gloria-text"], tmp_path)
    assert kept_weights.place_of(cards["lovt"], tmp_path) != kept_weights.place_of(cards["lovt-clip-text"], tmp_path)


def test_a_card_without_a_file_and_a_name_that_is_no_card_are_sentences(tmp_path: Path):
    with pytest.raises(UsageError, match="has no weights file to get: it starts at random"):
        get_weights("random-resnet18", tmp_path)
    with pytest.raises(UnknownName, match="gloria"):
        get_weights("glorias", tmp_path)


def test_the_package_of_a_card_needs_no_fetching(tmp_path: Path):
    got = get_weights("efficientnet-lite0", tmp_path)
    assert (got.state, got.path.name) == ("there", "efficientnet-lite0-57934424.pth")
    assert list(tmp_path.iterdir()) == []


def test_published_places_of_shipped_cards_are_whole():
    for one in registry.backbones().values():
        if one.published is None:
            continue
        assert one.weights, f"{one.name} says where its file is and names none"
        assert not one.published.url or one.digest, f"{one.name}: a direct link without a digest"
        assert not one.published.revision or one.published.hub, f"{one.name}: a revision of nothing"
