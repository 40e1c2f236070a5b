"""A study small enough for a test: two methods of a few steps on 48 pixels, a task of a few steps on 64, and one in words."""

from __future__ import annotations

from pathlib import Path

import yaml

from benchmark import registry
from tests.corpora import CorpusPlan, write_corpus
from tests.pretraining.small import corpus, recipe

TASK, IN_WORDS = "rsna-linear-frozen-mini", "ms-cxr-grounding-mini"
RSNA = CorpusPlan(dataset="rsna", n_patients=24, seed=3)
MS_CXR = CorpusPlan(dataset="ms-cxr", n_patients=12, seed=3)

STUDY = """\
name: mini
title: A study in miniature
recipes: [convirt-mini, lovt-mini]
seeds: [0]
budget: {pairs: 12, checkpoints: [0.5]}
claims:
  - {recipe: lovt-mini, against: convirt-mini, measures: [rsna-linear-frozen-mini, ms-cxr-grounding-mini, retrieval], says: places help}
ablations:
  - {recipe: lovt-mini, without: lovt-plain-mini, part: local losses}
ladder: {recipe: convirt-mini, shares: [0.5]}
shuffled: [convirt-mini]
evaluation: {tasks: [rsna-linear-frozen-mini, ms-cxr-grounding-mini], protocol: corrected, runs: 1}
"""


def write(folder: Path) -> None:
    """Cards in `own`, phantom data in `data`, the study beside them. The ablation's recipe is broken: its method has no such option."""
    corpus(folder / "data" / "mimic-cxr")
    for plan in (RSNA, MS_CXR):
        write_corpus(plan, folder / "data" / plan.dataset)
    cards = [recipe(name, steps=2).model_copy(update={"name": f"{name}-mini"}) for name in ("convirt", "lovt")]
    cards.append(cards[1].model_copy(update={"name": "lovt-plain-mini", "objective": {**cards[1].objective, "words": 3}}))
    task = registry.task("rsna-linear-frozen-demo").model_dump(mode="json", exclude_unset=True)
    task |= {"id": TASK, "title": "RSNA, linear, mini", "frame_size": 64, "recipe": {**task["recipe"], "max_steps": 2}}
    asked = registry.task("ms-cxr-grounding-test-lobe").model_dump(mode="json", exclude_unset=True)
    asked |= {"id": IN_WORDS, "title": "MS-CXR, grounding, mini", "frame_size": 64, "protocols": ["corrected"]}
    (folder / "own" / "tasks").mkdir(parents=True)
    (folder / "own" / "tasks" / "mini.yaml").write_text(
        yaml.safe_dump({"tasks": [task, asked], "pretraining": [card.model_dump(mode="json") for card in cards]})
    )
    (folder / "study.yaml").write_text(STUDY)
