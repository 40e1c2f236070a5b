"""What no sentence says of data whose agreement lets nothing be passed on: ids, patients, and paths of their files.

A sentence may reach a terminal, a log, a record and a page, and whoever writes one cannot know where it ends. So it is decided here, by the
card, for every reader: readers of such data name tables and lines, and what they or the libraries below them name all the same is withheld
when it leaves the reader. What looks like an id is withheld as well, since an id that no table knows is an id too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.cards import DatasetCard
from benchmark.errors import DataError, LobeError
from benchmark.readers.kit.unnamed import UNNAMED

_OF_DICOM = "1.2.840.10008."  # the standard's own UIDs, of transfer syntaxes for one
_TOKEN = re.compile(r"[^\s,;:()'\"`|=<>\[\]{}]+")
# Numbers of five digits without a comma, UIDs, and hexadecimal names: ids of every such release, and of none of their tables.
_ID_LIKE = re.compile(r"\d{5}|(?:\d+\.){4}|[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f]{16}")


def is_withheld(card: DatasetCard) -> bool:
    """Whether the dataset's agreement lets nothing of it be passed on."""
    return card.redistribution == "none"


def without_names(sentence: str, root: Path | None = None, words: Iterable[str] = ()) -> str:
    """The sentence with `withheld` in place of names.

    Args:
        root: the dataset's own folder, which may be told; what follows it may not, unless it looks like no id.
        words: ids, patients and file names that are known.
    """
    return without_known(sentence, root, known_names(words))


def known_names(words: Iterable[str]) -> frozenset[str]:
    """Names that are withheld: the words, and those of files without their endings."""
    words = frozenset(words)
    return words | {word[: word.rfind(".")] for word in words if "/" not in word and 0 < word.rfind(".") < len(word) - 1}


def without_known(sentence: str, root: Path | None, known: frozenset[str]) -> str:
    """As `without_names`, for `known_names` made before."""
    parts = sentence.split(str(root)) if root is not None else [sentence]
    told = [_withheld_in(parts[0], known, below=False), *(_withheld_in(part, known, below=True) for part in parts[1:])]
    return str(root).join(told)


@contextmanager
def withholding(card: DatasetCard, root: Path | None = None, words: Callable[[], Iterable[str]] = tuple) -> Iterator[None]:
    """Errors that leave here name nothing of a dataset whose card says `none`; those of others are left as they are.

    Args:
        words: gives what is known; asked only where there is an error.
    """
    try:
        yield
    except OSError as error:  # also NotRegular, whose own sentence begins with the path
        if is_withheld(card):
            raise DataError(f"{card.name}: a file cannot be read ({error.strerror}). Is the folder complete?") from None
        raise
    except LobeError as error:
        if is_withheld(card):
            error.args = (without_names(str(error), root, words()),)
            raise error from None
        raise


@dataclass(frozen=True)
class Quiet:
    """A call about one image whose errors do not name it."""

    card: DatasetCard
    root: Path
    words: tuple[str, ...]
    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        with withholding(self.card, self.root, lambda: self.words):
            return self.call(*arguments)


def _withheld_in(text: str, known: frozenset[str], *, below: bool) -> str:
    """A piece of a sentence; `below`: it follows the dataset's folder, so that its first token may be the rest of a path."""

    def shown(found: re.Match[str]) -> str:
        token = found[0]
        elsewhere = token.startswith("/") and not (below and found.start() == 0)  # a folder of the user's, whose name may hold any number
        path = PurePosixPath(token.rstrip("."))
        ends = {"/".join(path.parts[k:]) for k in range(len(path.parts))}
        like_an_id = not elsewhere and not token.startswith(_OF_DICOM) and _ID_LIKE.search(token)
        if like_an_id or not known.isdisjoint({token, path.stem, *path.parts, *ends}):
            return f"{'/' if token.startswith('/') else ''}{UNNAMED}{'.' if token.endswith('.') else ''}"
        return token

    for name in known:
        if " " in name and name in text:  # a name of several words is no one token
            text = text.replace(name, UNNAMED)
    return _TOKEN.sub(shown, text)
