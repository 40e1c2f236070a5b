"""Statistics of data that may not be passed on, without names: images and patients under a keyed hash, in an order that the hash gives.

The key is a secret that stays in the output folder. New names alone would not do: lists of such releases are public in part, and row k of a
file in the split's order is image k. Metrics that depend on the order of images do not follow from such a file, and are left out.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import numpy as np

from benchmark import private
from benchmark.errors import StoreError
from benchmark.files import read_bytes
from benchmark.kinds.kit.stored import ByImage
from benchmark.metrics import statistics as of_split
from benchmark.metrics.columns import Column, Lists

SECRET = "submission.secret"  # in the output folder; whoever has it can name the rows of what was packed
PREFIX = "keyed:"  # of a name that is none
_OF_ORDER = frozenset({"batch_size"})  # columns that mean nothing in another order


def secret_of(out: Path) -> bytes:
    """The secret of an output folder, made when first asked for; only its owner may read it.

    Raises:
        StoreError: it cannot be made, or is no secret.
    """
    path = out / SECRET
    try:
        if not path.exists():
            with open(path, "xb", opener=private.opener) as handle:
                handle.write(secrets.token_hex(32).encode())
                handle.flush()
                os.fsync(handle.fileno())
        found = read_bytes(path).strip()
    except OSError as error:
        raise StoreError(f"{path} cannot be used: {error.strerror}. It holds the key under which restricted data is packed.") from None
    if len(found) != 64:
        raise StoreError(f"{path} does not hold 64 hex digits. Delete it; what is packed then has other pseudonyms than before.")
    return found


def pseudonymised(found: ByImage, secret: bytes, dataset: str) -> ByImage:
    """The same statistics under other names, in another order.

    Args:
        dataset: one image has different pseudonyms in two datasets.
    """

    def named(kind: str, name: str) -> str:
        return PREFIX + hmac.new(secret, f"{dataset}\0{kind}\0{name}".encode(), hashlib.sha256).hexdigest()[:32]

    ids = [named("image", name) for name in found.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    columns = of_split.to_columns(found.statistics)
    place = np.array(order, np.int64)
    kept: dict[str, Column] = {
        name: column.taken(place) if isinstance(column, Lists) else column[place]
        for name, column in columns.columns.items()
        if name not in _OF_ORDER
    }
    patients = tuple(None if (name := found.patients[k]) is None else named("patient", name) for k in order)
    return ByImage(tuple(ids[k] for k in order), patients, of_split.from_columns(columns.about, kept))


def is_pseudonymised(found: ByImage) -> bool:
    """Whether every image has a pseudonym for a name, and every known patient too."""
    return all(name.startswith(PREFIX) for name in (*found.ids, *filter(None, found.patients)))
