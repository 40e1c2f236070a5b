"""Text tasks measure what was learned from pairs: the same pre-training on shuffled image-text pairs gains nothing.

Two small towers are pre-trained on MIMIC-CXR phantoms with their reports, on true pairs and on the same pairs shuffled, with one seed; a
third is not trained. Asked of each: retrieval on Open-I, zero-shot on CheXpert 5x200, and whether an image's own report stands above the
same report with one word of side or zone changed.

What chance gives is never a constant here. It is the score under exchange of what pre-training could have taught: which report belongs to
which image, and which name belongs to which class. Differences have intervals over test images.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from benchmark import registry
from benchmark.api import Request, evaluate
from benchmark.cards import Record
from benchmark.encoders.sealed import SealedEncoder
from benchmark.imaging.prepare import prepare_image
from benchmark.kinds.kit.class_scores import SCORES_FILE, read_scores
from benchmark.kinds.kit.stored import STATISTICS_FILE, read_statistics
from benchmark.kinds.retrieval import EMBEDDINGS_FILE
from benchmark.metrics import retrieval
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.phantom.reports import hard_negatives
from benchmark.readers.base import open_reader
from benchmark.report import resampling
from benchmark.training import pair_pretraining
from benchmark.training.pair_pretraining import TwoTowers
from tests.statistics.intervals import percentile_interval

pytestmark = [pytest.mark.slow, pytest.mark.study]

CARDS = Path(__file__).parent / "cards"
CORES = os.cpu_count() or 1
EVALUATION = {"open-i": 300, "chexpert": 600}  # patients, one image each
PRETRAINING_PATIENTS, PRETRAINING_SEED, EVALUATION_SEED = 1_600, 2002, 11
SHOWN = 16_000  # images, with repetition
RETRIEVAL, ZERO_SHOT = "open-i-retrieval-lobe", "chexpert-5x200-zero-shot-phantom-findings"
ARMS = ("untrained", "shuffled", "true")
LEVEL = 0.01  # of a score that chance would give; five classes have 120 orders of names, so that no smaller one could be met
N_EXCHANGES = 999
PLACES = ("right", "left", "upper", "mid", "lower")

# Untrained towers draw new numbers in every run; trained ones are always the same.
FACTORIES = """
import json
from pathlib import Path

from benchmark.training import pair_pretraining

HERE = Path(__file__).parent


def true():
    return pair_pretraining.load(HERE / "true.safetensors")


def shuffled():
    return pair_pretraining.load(HERE / "shuffled.safetensors")


def untrained():
    return pair_pretraining.TwoTowers(json.loads((HERE / "vocabulary.json").read_text()))
"""


@dataclass(frozen=True)
class Controls:
    """Attributes:
    records: by task and arm; several runs of the untrained towers.
    learned: what `pretrain` returned, by arm.
    """

    root: Path
    records: dict[tuple[str, str], list[Record]]
    learned: dict[str, dict[str, float]]

    def score(self, task: str, arm: str) -> float:
        return float(np.mean([record.metrics[record.job.experiment.report] for record in self.records[task, arm]]))

    def gain(self, task: str, arm: str, base: str) -> tuple[float, float, float]:
        """Difference of two arms with its 95 % interval over test images, paired; runs of an arm are averaged."""
        one, other = (
            resampling.together([resampling.of_record(record, self.root / "out") for record in self.records[task, name]])
            for name in (arm, base)
        )
        assert one is not None, "the arm has no resamples"
        assert other is not None, "its base has no resamples"
        assert one.test == other.test, "the two arms were tested on other images"
        found = percentile_interval(self.score(task, arm) - self.score(task, base), one.mean - other.mean)
        return found.value, found.low, found.high

    def produced(self, task: str, arm: str) -> Path:
        """Folder of predictions of an arm's first run."""
        return self.root / "out" / "predictions" / self.records[task, arm][0].key


@pytest.fixture(scope="module")
def controls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controls]:
    before = list(registry._included)
    registry.include(CARDS)
    root = tmp_path_factory.mktemp("text-controls")
    for name, patients in EVALUATION.items():
        plan = CorpusPlan(name, patients, EVALUATION_SEED, (1, 1), positive_share=0.9)
        write_corpus(plan, root / "data" / registry.dataset(name).folder, workers=CORES)
    corpus = root / "pretraining"
    write_corpus(CorpusPlan("mimic-cxr", PRETRAINING_PATIENTS, PRETRAINING_SEED, (1, 1), positive_share=0.9), corpus, workers=CORES)
    pairs = pair_pretraining.load_pairs("mimic-cxr", corpus)
    given = {"true": pairs, "shuffled": pair_pretraining.shuffled(pairs, PRETRAINING_SEED)}
    towers = root / "towers"
    towers.mkdir()
    # One thread each, side by side: faster than one after the other with all of them, and the weights do not depend on the machine.
    with ProcessPoolExecutor(min(CORES, len(given)), mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = {arm: pool.submit(pair_pretraining.pretrain, one, towers / f"{arm}.safetensors", SHOWN, 1) for arm, one in given.items()}
        learned = {arm: job.result() for arm, job in jobs.items()}
    (towers / "vocabulary.json").write_text(json.dumps(pair_pretraining.vocabulary(pairs.reports)))
    (towers / "towers.py").write_text(FACTORIES)
    request = Request(
        backbones=[f"{towers / 'towers.py'}:{arm}" for arm in ARMS],
        tasks=(RETRIEVAL, ZERO_SHOT),
        data=[str(root / "data")],
        out=root / "out",
        cache=root / "cache",
        protocol="corrected",
        executor="inline",
        tracking=False,
    )
    evaluation = evaluate(request)
    assert [record.failure for record in evaluation.failures] == []
    records: dict[tuple[str, str], list[Record]] = {}
    for record in evaluation.records:
        arm = record.job.experiment.backbone.model.partition(":")[0]
        records.setdefault((record.job.labels.task, arm), []).append(record)
    yield Controls(root, records, learned)
    registry._included[:] = before
    for cached in (registry.tasks, registry.suites, registry.prompts):
        cached.cache_clear()


def test_pretraining_shares_no_patient_with_the_test(controls: Controls):
    pretraining = open_reader(registry.dataset("mimic-cxr"), controls.root / "pretraining")
    names = {pretraining.sample(i).patient_id for i in pretraining.ids}
    chexpert = open_reader(registry.dataset("chexpert"), controls.root / "data" / "chexpert")
    assert not names & {chexpert.sample(i).patient_id for i in chexpert.ids}


def test_shuffled_towers_differ_from_true_ones_in_their_pairs_alone(controls: Controls, record_property):
    for arm, found in controls.learned.items():
        record_property(f"loss after {arm} pairs, and of the log odds alone", f"{found['loss']:.2f}, {found['loss of log odds']:.2f}")
    assert controls.learned["true"]["words"] == controls.learned["shuffled"]["words"]
    assert controls.learned["true"]["sentences"] == controls.learned["shuffled"]["sentences"]
    assert {arm: len(controls.records[RETRIEVAL, arm]) for arm in ARMS} == {"untrained": 5, "shuffled": 1, "true": 1}


@pytest.mark.parametrize("task", [RETRIEVAL, ZERO_SHOT])
def test_true_pairs_gain_on_a_text_task_and_shuffled_pairs_do_not(controls: Controls, task: str, record_property):
    chance = {arm: {RETRIEVAL: retrieved_by_chance, ZERO_SHOT: named_by_chance}[task](controls, arm) for arm in ARMS}
    gains = {(arm, base): controls.gain(task, arm, base) for arm, base in itertools.combinations(reversed(ARMS), 2)}
    record_property("per cent", {arm: round(100 * controls.score(task, arm), 1) for arm in ARMS})
    record_property(f"chance at {100 - 100 * LEVEL:.0f} %", {arm: round(100 * level_of(drawn), 1) for arm, drawn in chance.items()})
    for (arm, base), (value, low, high) in gains.items():
        record_property(f"{arm} minus {base}, points", f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
    assert controls.score(task, "true") > level_of(chance["true"])
    assert gains["true", "untrained"][1] > 0
    assert gains["true", "shuffled"][1] > 0
    assert controls.score(task, "shuffled") <= level_of(chance["shuffled"])
    assert gains["shuffled", "untrained"][2] < gains["true", "untrained"][1], "the intervals of the two gains touch"


def test_true_pairs_tell_a_report_from_one_changed_word_and_shuffled_pairs_do_not(controls: Controls, record_property):
    above = {}
    for arm in ("shuffled", "true"):
        won = won_against_changed_places(controls, pair_pretraining.load(controls.root / "towers" / f"{arm}.safetensors"))
        own, chance = np.diag(won), exchanged(won)
        drawn = np.random.default_rng(0).choice(own, (1_000, len(own))).mean(axis=1)
        interval = percentile_interval(own.mean(), drawn)
        shares = f"{100 * own.mean():.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f}), {100 * level_of(chance):.1f}"
        record_property(f"per cent after {arm} pairs, chance at {100 - 100 * LEVEL:.0f} %", shares)
        above[arm] = own.mean() > level_of(chance)
    record_property("images", len(own))
    assert above == {"shuffled": False, "true": True}


# ------------------------------------------------------------------------------------------------------------------ chance


def level_of(drawn: np.ndarray) -> float:
    """The smallest score that chance exceeds in no more than `LEVEL` of its draws."""
    return float(np.quantile(drawn, 1 - LEVEL, method="higher"))


def retrieved_by_chance(controls: Controls, arm: str) -> np.ndarray:
    """Scores when reports are dealt out to images anew, with the similarities of image and text as they are."""
    pairs = pq.read_table(controls.produced(RETRIEVAL, arm) / EMBEDDINGS_FILE)
    image, text = (np.array(pairs.column(side).to_pylist(), np.float32) for side in ("image", "text"))
    reader = open_reader(registry.dataset("open-i"), controls.root / "data" / "open-i")
    keys = retrieval.text_keys([reader.sample(i).report or "" for i in pairs.column("id").to_pylist()])
    similarities = retrieval.cosine(image, text)

    def hit(order: np.ndarray) -> float:
        return float(retrieval.rank_candidates(similarities, keys[order], keys, (5,)).hit[5].mean())

    own = controls.records[RETRIEVAL, arm][0].metrics["image_to_text_hit@5"]
    assert hit(np.arange(len(keys))) == pytest.approx(own), "what is exchanged here is not what the task scored"
    rng = np.random.default_rng(0)
    return np.array([hit(rng.permutation(len(keys))) for _ in range(N_EXCHANGES)])


def named_by_chance(controls: Controls, arm: str) -> np.ndarray:
    """Mean AUROC over classes when the names are dealt out to the classes anew, in all 120 ways.

    Untrained towers see images too, and a random direction may run along a finding: what they lack is which word means it.
    """
    folder = controls.produced(ZERO_SHOT, arm)
    scores, _, _ = read_scores(folder / SCORES_FILE)
    truth = np.asarray(read_statistics(folder / STATISTICS_FILE).statistics.truth)
    n = truth.shape[1]
    table = np.array([[roc_auc_score(truth[:, c], scores[:, name]) for c in range(n)] for name in range(n)])
    # Scores are kept in single precision, in which two may tie that the record tells apart.
    assert np.diag(table).mean() == pytest.approx(controls.records[ZERO_SHOT, arm][0].metrics["auroc"], abs=1e-3)
    return np.array([table[list(order), range(n)].mean() for order in itertools.permutations(range(n))])


def exchanged(won: np.ndarray) -> np.ndarray:
    """Means over images when reports, each with its changed copies, are dealt out to images anew: what looking at the text alone gives."""
    rng = np.random.default_rng(0)
    return np.array([won[np.arange(len(won)), rng.permutation(len(won))].mean() for _ in range(N_EXCHANGES)])


def won_against_changed_places(controls: Controls, towers: TwoTowers) -> np.ndarray:
    """(N, N): share of report j's copies with another side or zone that image i finds less similar than report j; 0.5 where equal."""
    reader = open_reader(registry.dataset("open-i"), controls.root / "data" / "open-i")
    samples = [reader.sample(i) for i in reader.ids]
    changed = {sample.id: changed_places(sample.report or "") for sample in samples}
    samples = [sample for sample in samples if changed[sample.id]]
    encoder = SealedEncoder(towers, reader.card.statistics)
    images = torch.from_numpy(np.stack([prepare_image(sample, reader.card.intensity, 224)[0] for sample in samples]))
    with torch.no_grad():
        seen = F.normalize(torch.cat([encoder.embed_images(batch).global_ for batch in images.split(32)]), dim=1)
        columns = []
        for sample in samples:
            texts = F.normalize(towers.embed_texts([sample.report, *changed[sample.id]]).global_, dim=1)
            own, others = (seen @ texts.T).split([1, len(texts) - 1], dim=1)
            columns.append(((own > others).float() + 0.5 * (own == others).float()).mean(dim=1))
    return torch.stack(columns, dim=1).numpy()


def changed_places(report: str) -> list[str]:
    """The report with one word of side or zone changed, in every way."""
    words = report.lower().split()
    found = []
    for text in hard_negatives(report):
        (place,) = [k for k, word in enumerate(text.lower().split()) if word != words[k]]
        if words[place].strip(".,") in PLACES:
            found.append(text)
    return found
