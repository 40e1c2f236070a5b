"""Lines of `lobe data verify` about counts: a release against its card, a phantom against its PHANTOM.json, blemishes against their limit.

Which counts there are, the readers know; digests of splits are compared in `splits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from benchmark.cards import DatasetCard, SplitRule
from benchmark.errors import LobeError, SplitError, TooFewImages
from benchmark.readers.base import Check, Reader, Verdict, ids_digest
from benchmark.readers.kit.splits import PatientOf, Splits, check_digests, compare

UNPACK = "Unpack the images again."


def count_checks(expected: Mapping[str, int], found: Mapping[str, int], hint: str = "") -> Iterator[Check]:
    """Every expected count against what was found; a count the reader does not know is `unknown`, never ok."""
    for name, number in expected.items():
        what = name.replace("_", " ")
        yield compare(what, number, found[name], hint) if name in found else Check(what, f"{number:,}", "not counted", "unknown")


def phantom_checks(manifest: Mapping[str, Any], found: Mapping[str, int], ids: Sequence[str]) -> Iterator[Check]:
    """Counts and id digests of a generated corpus against its PHANTOM.json."""
    hint = "The corpus was changed after it was generated; write it again with `lobe data sample`."
    yield from count_checks(manifest.get("counts", {}), found, hint)
    digests = manifest.get("digests", {})
    for name, ordered in (("ids_sha256_ordered", True), ("ids_sha256_sorted", False)):
        if name in digests:
            yield compare(f"ids, {'in label-file order' if ordered else 'sorted'}", digests[name], ids_digest(ids, ordered=ordered), hint)


def release_checks(
    reader: Reader,
    counts: Mapping[str, int],
    hint: str,
    expected: Mapping[str, int] | None = None,
    ids: Sequence[str] | None = None,
) -> Iterator[Check]:
    """Counts of a phantom against its PHANTOM.json, those of a release against its card.

    A phantom names its patients, also where the release does not; they are counted here unless the reader counted them.

    Args:
        expected: of a release; None: all that its card states.
        ids: whose digests a phantom states; None: the reader's.
    """
    if reader.phantom is not None:
        patients = {} if "patients" in counts else {"patients": len(set(reader.phantom_patients().values()))}
        yield from phantom_checks(reader.phantom, {**counts, **patients}, reader.ids if ids is None else ids)
    else:
        yield from count_checks(reader.card.expected if expected is None else expected, counts, hint)


def split_checks(
    reader: Reader,
    n_boxes: Callable[[str], int] | None = None,
    positive: Callable[[str], bool] | None = None,
    patient_of: PatientOf | None = None,
    split: Callable[[SplitRule], Splits] | None = None,
) -> Iterator[Check]:
    """Sizes and digests of a release's splits against its card; a phantom's are its own.

    Args:
        n_boxes, positive, patient_of: as for `check_digests`.
        split: makes the lists that the card expects something of, where those are not the reader's own splits alone.
    """
    if reader.phantom is not None:
        return
    for name, rule, splits in made_splits(reader, split):
        for line in check_digests(splits, rule.expected, n_boxes, positive, patient_of):
            yield replace(line, what=f"{name} {line.what}")


def made_splits(reader: Reader, split: Callable[[SplitRule], Splits] | None = None) -> Iterator[tuple[str, SplitRule, Splits]]:
    """Those of the card's splits of which it expects something and that the folder allows, each with its name and rule.

    One that it does not allow is no reason to leave other checks out, nor to refuse lists given in its place: whoever asks for it is told
    why, and `lobe data verify` tells it of each.
    """
    for name, rule in reader.card.splits.items():
        if rule.expected:
            with suppress(SplitError, TooFewImages):
                yield name, rule, (split or reader.split)(rule)


def tolerated(card: DatasetCard, what: str, found: int) -> Check:
    """A known blemish: a warning up to the card's count, an error beyond it, ok when absent."""
    known = next((d for d in card.deviations if d.what == what), None)
    at_most, why = (known.at_most, known.why) if known else (0, "No copy of this release is known to have any.")
    verdict: Verdict = "ok" if found == 0 else "warning" if found <= at_most else "error"
    return Check(what, f"at most {at_most:,}", f"{found:,}", verdict, why if found else "")


def check_of(what: str, expected: str, look: Callable[[], tuple[str, Verdict, str]], hint: str = UNPACK) -> Check:
    """A line about files that are opened for it. An error of one of them is what was found, and `hint` what to do then.

    Args:
        look: gives what was found, the verdict, and what to do about it.
    """
    try:
        return Check(what, expected, *look())
    except LobeError as error:
        return Check(what, expected, str(error), "error", hint)


def first_image_check(reader: Reader) -> Check:
    """Decodes the first image, for datasets without masks."""

    def look() -> tuple[str, Verdict, str]:
        reader.sample(reader.ids[0]).image()
        return "readable", "ok", ""

    return check_of("first image", "readable", look)


def first_sample_check(reader: Reader) -> Check:
    """Decodes the first image with a finding and draws its masks: wrong codecs and resized copies show before a run does."""
    sample = next((s for s in map(reader.sample, reader.ids) if s.positive), None)
    if sample is None or sample.masks is None:
        return Check("first image with a finding", "readable", "no image has one", "error", "Are these the label files of the release?")
    try:
        image = sample.image()
        filled = sample.masks(image.shape).any()
    except LobeError as error:
        return Check("first image with a finding", "readable", str(error), "error", UNPACK)
    # Not an error: LoVT's exchanged coordinates may put an object outside its image.
    found = f"readable, mask {'filled' if filled else 'empty'}"
    return Check("first image with a finding", "readable, mask filled", found, "ok" if filled else "warning")


def as_warning(check: Check, hint: str) -> Check:
    """The same line, with an error turned into a warning: for re-releases that are known to differ there."""
    return replace(check, verdict="warning", hint=hint) if check.verdict == "error" else check
