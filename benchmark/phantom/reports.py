"""Report text of a phantom image: what is seen, on which side, in which zone, in varied wording.

Text describes appearances and never a diagnosis. Side and zone words stand alone, so that a hard negative is one word away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from benchmark.phantom.anatomy import Side
from benchmark.phantom.findings import Zone

_OPPOSITES = {
    "right": ("left",),
    "left": ("right",),
    "upper": ("mid", "lower"),
    "mid": ("upper", "lower"),
    "lower": ("upper", "mid"),
    "patchy": ("no",),
}

_SENTENCES = {
    "opacity": (
        "There is patchy opacity in the {side} {zone} zone.",
        "Patchy airspace opacity projects over the {side} {zone} zone.",
        "Patchy opacity is seen in the {side} {zone} lung zone.",
        "The {side} {zone} zone shows patchy ill-defined opacity.",
        "Patchy consolidation is present in the {side} {zone} zone.",
    ),
    "ground glass": (
        "There is patchy ground-glass opacity in the {side} {zone} zone.",
        "Patchy hazy opacity is seen in the {side} {zone} zone.",
    ),
    "consolidation": ("There is patchy dense consolidation in the {side} {zone} zone.",),
    "pneumothorax": (
        "There is a {side} pneumothorax reaching the {zone} zone.",
        "A pleural line without lung markings beyond it is seen on the {side}, {zone} zone.",
    ),
    "effusion": (
        "Blunting of the {side} costophrenic angle with fluid in the {zone} zone.",
        "A {side} pleural effusion fills the {zone} zone.",
    ),
    "atelectasis": ("Plate-like atelectasis in the {side} {zone} zone.", "Linear bands cross the {side} {zone} zone."),
    "infiltrate": (
        "A fine reticular pattern covers the {side} {zone} zone.",
        "Interstitial markings are prominent in the {side} {zone} zone.",
    ),
    "nodule": ("A round nodule projects over the {side} {zone} zone.", "A small well-defined nodule lies in the {side} {zone} zone."),
    "mass": ("A large round mass projects over the {side} {zone} zone.", "A well-defined mass lies in the {side} {zone} zone."),
    "shadow": (
        "A smooth soft tissue shadow overlies the {side} {zone} zone.",
        "Overlying soft tissue is noted in the {side} {zone} zone.",
    ),
}
_CLEAR = (
    "There is no opacity in either lung.",
    "No focal opacity is seen.",
    "The lungs are clear.",
    "Both lungs are clear without focal opacity.",
    "No airspace opacity.",
)
_OTHERWISE_CLEAR = ("The lungs are otherwise clear.", "No other focal opacity.", "The remaining lung is clear.")
_PLEURA = ("No pleural effusion or pneumothorax.", "There is no effusion and no pneumothorax.", "The pleural spaces are unremarkable.")
_NO_DEVICES = ("No support devices.", "No lines or tubes are seen.", "")
_DEVICES = ("{} noted.", "There are support devices: {}.", "{} in place.")
_SHORT = {
    "opacity": "opacity",
    "ground glass": "ground-glass opacity",
    "consolidation": "consolidation",
    "pneumothorax": "pneumothorax",
    "effusion": "effusion",
    "atelectasis": "atelectasis",
    "infiltrate": "reticular pattern",
    "nodule": "nodule",
    "mass": "mass",
}


@dataclass(frozen=True)
class Seen:
    """One finding as a report names it."""

    kind: str
    side: Side
    zone: Zone


def write_report(seen: list[Seen], heart_enlarged: bool, devices: list[str], rng: np.random.Generator) -> str:
    """A report with the sections FINDINGS and IMPRESSION, one per line.

    Findings come in the order given; a "shadow" is described but never part of the impression.
    """
    of_note = [one for one in seen if one.kind != "shadow"]
    sentences = [_pick(_SENTENCES[one.kind], rng).format(side=one.side, zone=one.zone) for one in seen]
    sentences.append(_pick(_OTHERWISE_CLEAR if of_note else _CLEAR, rng))
    if not any(one.kind in ("effusion", "pneumothorax") for one in seen):
        sentences.append(_pick(_PLEURA, rng))
    sentences.append(f"The heart size is {'enlarged' if heart_enlarged else 'normal'}.")
    sentences.append(_pick(_DEVICES, rng).format(", ".join(devices)) if devices else _pick(_NO_DEVICES, rng))
    impression = [f"{one.side} {one.zone} zone {_SHORT[one.kind]}." for one in of_note]
    impression += ["Enlarged cardiac silhouette."] if heart_enlarged else []
    impression = impression or [_pick(("No acute abnormality.", "Clear lungs.", "No focal opacity."), rng)]
    findings = " ".join(_sentence(text) for text in sentences if text)
    return f"FINDINGS: {findings}\nIMPRESSION: {' '.join(_sentence(text) for text in impression)}"


def hard_negatives(text: str) -> list[str]:
    """All texts that say something else by changing exactly one word: side, zone, presence of an opacity, or heart size.

    In the order of the words; empty when nothing can be changed.
    """
    found = []
    for match in re.finditer(r"[A-Za-z]+", text):
        for word in _alternatives(text, match):
            word = word.capitalize() if match[0][0].isupper() else word
            found.append(text[: match.start()] + word + text[match.end() :])
    return found


def _alternatives(text: str, match: re.Match[str]) -> tuple[str, ...]:
    word, before, after = match[0].lower(), text[: match.start()].lower(), text[match.end() :].lower()
    if before.endswith("heart size is "):
        return ("normal",) if word == "enlarged" else ("enlarged",)
    if word == "no" and after.startswith((" opacity", " focal opacity", " airspace opacity")):
        return ("patchy",)
    return _OPPOSITES.get(word, ())


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
