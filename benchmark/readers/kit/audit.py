"""How far the splits of a dataset leak: images and patients they share. Aggregates only; no id leaves this module.

What a split rule promises stands in `splits`; here it is counted, on the images a job really used or a folder really holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from benchmark.cards import DatasetCard
from benchmark.readers.base import SPLITS, Check
from benchmark.readers.kit.splits import PatientOf

HELD_OUT = "validation", "test"


def leakage(splits: Mapping[str, Sequence[str]], patient_of: PatientOf) -> dict[str, int]:
    """Counts of images and patients that splits share.

    Returns:
        `<split>_images`, `<split>_patients` and `<split>_images_patient_known` per split; `shared_images_<a>_<b>` and
        `shared_patients_<a>_<b>` per pair; `<split>_images_patient_in_train`: images of validation or test whose patient is in train.
    """
    patients = {split: [patient_of(i) for i in splits[split]] for split in SPLITS}
    known = {split: {p for p in listed if p is not None} for split, listed in patients.items()}
    counts: dict[str, int] = {}
    for split in SPLITS:
        counts[f"{split}_images"] = len(splits[split])
        counts[f"{split}_patients"] = len(known[split])
        counts[f"{split}_images_patient_known"] = sum(p is not None for p in patients[split])
    for one, other in combinations(SPLITS, 2):
        counts[f"shared_images_{one}_{other}"] = len(set(splits[one]) & set(splits[other]))
        counts[f"shared_patients_{one}_{other}"] = len(known[one] & known[other])
    for split in HELD_OUT:
        counts[f"{split}_images_patient_in_train"] = sum(p in known["train"] for p in patients[split])
    return counts


def leakage_checks(card: DatasetCard, split_name: str, counts: Mapping[str, int]) -> Iterator[Check]:
    """The same as lines of `lobe data verify`.

    Shared images are an error; shared patients a warning, because the published splits have them.
    """
    shared = sum(counts[f"shared_images_{one}_{other}"] for one, other in combinations(SPLITS, 2))
    yield Check(f"split {split_name}: images in two splits", "0", f"{shared:,}", "error" if shared else "ok")
    if not any(counts[f"{split}_patients"] for split in SPLITS):
        yield Check(f"split {split_name}: patients in two splits", "0", "patients unknown", "unknown", "Resampling is by image.")
        return
    for one, other in combinations(SPLITS, 2):
        found = counts[f"shared_patients_{one}_{other}"]
        yield Check(f"split {split_name}: patients in {one} and {other}", "0", f"{found:,}", "warning" if found else "ok")
    for split in HELD_OUT:
        leaked, sentence = counts[f"{split}_images_patient_in_train"], leak_sentence(counts, split)
        hint = f"{sentence}." + (" --split patient-disjoint measures the effect." if "patient-disjoint" in card.splits else "")
        yield Check(
            f"split {split_name}: {split} images of a training patient",
            "0",
            f"{leaked:,}",
            "warning" if leaked else "ok",
            hint if leaked else "",
        )


def summary_check(split_name: str, counts: Mapping[str, int]) -> Check:
    """One line for a variant of a split: its sizes, and the test images whose patient is still in training."""
    sizes = ", ".join(f"{split} {counts[f'{split}_images']:,}" for split in SPLITS)
    return Check(f"split {split_name}", "possible", f"{sizes}; {leak_sentence(counts)}", "ok")


def leak_sentence(counts: Mapping[str, int], split: str = "test") -> str:
    """`3,543 of 5,334 matched test images share a patient with train`; matched = their patient is known."""
    known, images = counts[f"{split}_images_patient_known"], counts[f"{split}_images"]
    if not known:
        return "patients unknown, resampling by image"
    matched = "" if known == images else "matched "
    return f"{counts[f'{split}_images_patient_in_train']:,} of {known:,} {matched}{split} images share a patient with train"
