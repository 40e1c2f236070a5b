"""How a release is had: files that anybody may download, and the steps for what needs an account, a click or a signature."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from benchmark.cards.base import Card


class ReleaseFile(Card):
    """One file at an address.

    Attributes:
        name: under which it is kept, without folders.
        url: https address of the file itself.
        digest: `sha256:HEX` or `md5:HEX` where its publisher or a check states one; empty = not known, recorded when it is first fetched.
        n_bytes: exact size, where known.
        about_bytes: rough size otherwise, for the room on the disk.
        strip: leading folders of the names in an archive that are left out.
        into: folder below the release's own that it goes into; empty = the release's own.
    """

    name: str
    url: str
    digest: str = ""
    n_bytes: int | None = None
    about_bytes: int = 0
    strip: int = 0
    into: str = ""

    @model_validator(mode="after")
    def _names_stay_inside(self) -> Self:
        if not self.name or self.name.startswith(".") or any(sign in self.name for sign in "/\\:"):
            raise ValueError(f"`name` is one file name, without folders: {self.name!r}")
        if self.into.startswith(("/", "~")) or ".." in self.into.split("/") or "\\" in self.into:
            raise ValueError(f"`into` is a folder below the release's own: {self.into!r}")
        return self


class ReleaseCard(Card):
    """How the release of one data folder is had.

    Attributes:
        name: folder of the release, as its dataset cards name it; those of one folder are one release.
        page: where its publisher describes it.
        files: what is downloaded without account or signature.
        steps: what a person does, in order, with links; for all of it where there are no files, else for what the files leave out.
        unverified: what no download confirmed of the above; empty = all of it was seen.
    """

    name: str
    page: str = ""
    files: tuple[ReleaseFile, ...] = ()
    steps: tuple[str, ...] = ()
    unverified: str = ""

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.files and not self.steps:
            raise ValueError("name files to download or steps to take")
        return self
