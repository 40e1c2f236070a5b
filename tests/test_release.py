"""A release has one version, wherever it is said, and notes that are its section of the changelog."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import yaml

from benchmark import extras
from tests.release_notes import UNRELEASED, NoRelease, main, notes, sections, version

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = "# Changelog\n\nThe form.\n\n## [Unreleased]\n\n- later\n\n## [0.2.0] - 2027-01-02\n\n### Added\n\n- a thing\n\n" + (
    "## [0.1.0] - 2026-12-24\n\n- first\n"
)


def test_package_citation_and_changelog_say_the_same_version():
    said = sections((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version()
    assert next(iter(said)) == UNRELEASED
    released = [name for name in said if name != UNRELEASED]
    assert released[0] == version() if released else f"pyproject.toml` says {version()}" in said[UNRELEASED]


def test_the_command_says_the_version_of_the_package(monkeypatch, capsys):
    from benchmark.cli import main as lobe

    monkeypatch.setattr("sys.argv", ["lobe", "--version"])
    with pytest.raises(SystemExit) as ended:
        lobe()
    assert (ended.value.code or 0, capsys.readouterr().out) == (0, f"lobe {version()}\n")
    assert importlib.metadata.version(extras.DISTRIBUTION) == version(), "the installation is of an earlier version: run make again"


def test_notes_are_the_section_of_the_version_and_of_no_other():
    assert sections(CHANGELOG) == {UNRELEASED: "- later", "0.2.0": "### Added\n\n- a thing", "0.1.0": "- first"}
    assert notes(CHANGELOG, "0.2.0", "v0.2.0") == "### Added\n\n- a thing"


@pytest.mark.parametrize(
    ("released", "tag", "sentence"),
    [("0.2.0", "v0.1.0", "The tag v0.1.0 is not v0.2.0"), ("0.3.0", "v0.3.0", r"no section \[0\.3\.0\] with text")],
)
def test_a_tag_of_another_version_and_a_version_without_notes_are_refused(released: str, tag: str, sentence: str):
    with pytest.raises(NoRelease, match=sentence):
        notes(CHANGELOG, released, tag)


def test_the_refusal_is_a_sentence_and_two(capsys):
    assert main(["v99.0.0"]) == 2
    assert capsys.readouterr().err.startswith("error: The tag v99.0.0 is not v")
