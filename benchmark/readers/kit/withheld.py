"""What no sentence says of data whose agreement lets nothing be passed on: ids, patients, and paths of their files.

A sentence may reach a terminal, a log, a record and a page, and whoever writes one cannot know where it ends. So it is decided here, by the
card, for every reader: readers of such data name tables and lines, and what they or the libraries below them name all the same is withheld
when it leaves the reader. What looks like an id is withheld as well, since an id that no table knows is an id too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from benchmark.cards import DatasetCard
from benchmark.errors import DataError, LobeError
from benchmark.readers.base import Check, Reader, Sample
from benchmark.readers.kit.unnamed import UNNAMED

_OF_DICOM = "1.2.840.10008."  # the standard's own UIDs, of transfer syntaxes for one
_TOKEN = re.compile(r"[^\s,;:()'\"`|=<>\[\]{}]+")
# Numbers of five digits without a comma, UIDs, and hexadecimal names: ids of every such release, and of none of their tables.
_SHOWN_DIGEST = re.compile(r"[0-9a-f]{16}")
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
    return _without(sentence, root, _known(words))


def _known(words: Iterable[str]) -> frozenset[str]:
    """Names that are withheld: the words, and those of files without their endings."""
    words = frozenset(words)
    return words | {word[: word.rfind(".")] for word in words if "/" not in word and 0 < word.rfind(".") < len(word) - 1}


def _without(sentence: str, root: Path | None, known: frozenset[str]) -> str:
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


class _Discreet(Reader):
    """Stands before the reader of a dataset that is withheld, and lets its errors, checks and warnings name nothing.

    Attributes:
        _behind: that reader, next in line: `super()` would name the abstract methods of `Reader`.
    """

    _behind: ClassVar[type[Reader]]

    def __init__(self, card: DatasetCard, root: Path, *rest: Any):
        with withholding(card, root):
            super().__init__(card, root, *rest)
        self.warnings = [self._quiet(sentence) for sentence in self.warnings]

    def sample(self, sample_id: str) -> Sample:
        with self._withholding():
            found = self._behind.sample(self, sample_id)
        words = (found.id, *filter(None, [found.patient_id]), *(path.name for path in found.files))
        masks = None if found.masks is None else Quiet(self.card, self.root, words, found.masks)
        return replace(found, image=Quiet(self.card, self.root, words, found.image), masks=masks)

    def checks(self) -> Iterator[Check]:
        with self._withholding():
            for check in self._behind.checks(self):
                digest = _SHOWN_DIGEST.fullmatch(check.found)  # of all ids together
                if check.verdict == "ok":
                    yield check
                else:
                    found = check.found if digest else self._quiet(check.found)
                    yield replace(check, found=found, hint=self._quiet(check.hint))

    def split(self, *arguments: Any) -> Any:
        with self._withholding():
            return self._behind.split(self, *arguments)

    def image_files(self) -> Any:
        with self._withholding():
            return super().image_files()

    def files_of(self, sample_id: str) -> Any:
        with self._withholding():
            return super().files_of(sample_id)

    def texts_of(self, sample_id: str) -> Any:
        with self._withholding():
            return super().texts_of(sample_id)

    def label_digest(self) -> str:
        with self._withholding():
            return super().label_digest()

    def outline_digest(self, sizes: Sequence[int] | None = None) -> str:
        with self._withholding():
            return super().outline_digest(sizes)

    def _withholding(self):
        return withholding(self.card, self.root, lambda: self.ids)

    def _quiet(self, sentence: str) -> str:
        return _without(sentence, self.root, self._known)

    @cached_property
    def _known(self) -> frozenset[str]:
        """Of a release with a hundred thousand images: made once, and where there is something to say."""
        return _known(self.ids)


@cache
def discreet(reader: type[Reader]) -> type[Reader]:
    """The same reader for data that is withheld."""
    return type(reader.__name__, (_Discreet, reader), {"__module__": reader.__module__, "__doc__": reader.__doc__, "_behind": reader})


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

    return _TOKEN.sub(shown, text)
