"""Where the tokenizer of a text backbone lies, and the digest of the files it is made of.

A card names it as a folder, as one file `tokenizer.json`, or by its name on the hub. Nothing of it is read here: `text.Tokenizer` does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from benchmark.errors import CheckpointChanged, EnvironmentProblem, UsageError

# What a tokenizer of transformers consists of; weights that lie in the same folder do not count.
FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "bpe.codes",
    "spm.model",
    "vocab.bpe",
    "sentencepiece.model",
    "normalizer.json",
)
_SETTINGS = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "normalizer.json")
VOCABULARIES = tuple(name for name in FILES if name not in _SETTINGS)
_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")


def find(asked: str, weights: Path | None, *, fetch: bool) -> Path | None:
    """The folder or file of a tokenizer, or None where it is not on this machine.

    Args:
        asked: a folder or a file, from the working folder or from that of the weights; or `OWNER/NAME`, with `@REVISION` behind it, on the
            hub. Of a hub's name a folder `NAME` beside the weights goes first.
        weights: the weights file.
        fetch: asks the network where neither is there.
    """
    beside = None if weights is None else weights.parent
    for path in (Path(asked).expanduser(), *(() if beside is None else (beside / asked,))):
        if _is_tokenizer(path):
            return path.resolve()
    named = _HUB.fullmatch(asked)
    if named is None:
        return None
    if beside is not None and _is_tokenizer(own := beside / named["repository"].rpartition("/")[2]):
        return own.resolve()
    return _of_hub(named["repository"], named["revision"], fetch=fetch)


def require(asked: str, weights: Path | None, backbone: str) -> Path:
    """As `find`, from the network where it has to be.

    Raises:
        EnvironmentProblem: it is not to be had; says where it may be put.
    """
    found = find(asked, weights, fetch=True)
    if found is not None:
        return found
    name = asked.partition("@")[0].rpartition("/")[2]
    place = "in a folder" if weights is None else f"as {weights.parent / name}, beside the weights"
    raise EnvironmentProblem(
        f"{backbone} reads texts with the tokenizer {asked}, which is not on this machine. Put its folder (vocabulary and config.json) "
        f"{place}, or name it behind the weights: #tokenizer=FOLDER."
    )


def digest(path: Path, digest_of: Callable[[Path], str]) -> str:
    """SHA-256 over names and contents of the tokenizer's files.

    Args:
        digest_of: SHA-256 of a file.
    """
    files = [path] if path.is_file() else [path / name for name in FILES if (path / name).is_file()]
    lines = "".join(f"{'tokenizer.json' if path.is_file() else file.name}\0{digest_of(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def require_unchanged(path: Path | None, expected: str, backbone: str, digest_of: Callable[[Path], str]) -> Path:
    """
    Raises:
        CheckpointChanged: there is none here, or it is another than when the job was planned.
    """
    if path is None or not path.exists():
        raise CheckpointChanged(f"{backbone} was planned with a tokenizer that is not here: {path}. Put it where every node sees it.")
    if (found := digest(path, digest_of)) != expected:
        raise CheckpointChanged(f"The tokenizer {path} is another ({found[:12]}…) than the job was planned with ({expected[:12]}…).")
    return path


def require_named(asked: str) -> None:
    """Raises UsageError for a choice that is neither there nor a hub's name."""
    if not _is_tokenizer(Path(asked).expanduser()) and _HUB.fullmatch(asked) is None:
        raise UsageError(f"#tokenizer={asked}: there is no folder with a vocabulary, and no tokenizer.json, of that name.")


def _is_tokenizer(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in VOCABULARIES)
    return path.suffix == ".json" and path.is_file()


def _of_hub(repository: str, revision: str | None, *, fetch: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    for local in (True, False) if fetch else (True,):
        try:
            found = Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES), local_files_only=local))
        except Exception:  # no network, no such repository, a cache that is damaged: it is not here
            continue
        if _is_tokenizer(found):
            return found
    return None
