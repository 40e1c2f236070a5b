"""The vocabulary of the project: every card, job and record as a frozen model.

Here live names and shapes of data, nothing that computes or reads files. Cards are written by people (YAML), jobs by planning, records by
training. One module for each kind of card; all names are imported from here.
"""

from benchmark.cards.backbones import IMAGENET, BackboneCard, BackboneSpec, Contamination, EncoderMode, Normalisation, PublishedFile
from benchmark.cards.base import DISCLAIMER, SCHEMA_VERSION, Card, Later, Target, canonical_json, digest_of
from benchmark.cards.datasets import CollectionCard, DatasetCard, Deviation, SplitCounts, SplitRule
from benchmark.cards.getting import ReleaseCard, ReleaseFile
from benchmark.cards.heads import POOLED, HeadFacts, HeadSize
from benchmark.cards.jobs import SHARED_CARDS, BackboneRef, DatasetRef, Experiment, Job, Labels, Role
from benchmark.cards.own_data import BoxColumns, CocoData, CsvData, MaskData, OwnData, PairData, YoloData
from benchmark.cards.own_split import OwnSplit
from benchmark.cards.panels import Anchor, LineupCard, Panel, PanelCard, PanelRow, PanelScale, PanelTask
from benchmark.cards.papers import Fact, PaperCard, PaperMethod, PaperTable, PrintedMetric
from benchmark.cards.pretraining import PretrainingCard
from benchmark.cards.prompts import AskedPrompts, PromptCard, PromptTemplate, PromptTexts
from benchmark.cards.protocols import OTHER_HEADS, READ_BY_TRAINING, Protocol, Switches
from benchmark.cards.records import VOLATILE_FIELDS, Choice, Epoch, Failure, Record
from benchmark.cards.studies import StudyAblation, StudyBudget, StudyCard, StudyClaim, StudyEvaluation, StudyLadder
from benchmark.cards.tasks import GridCard, Recipe, SuiteCard, TaskCard, Words

__all__ = [
    "DISCLAIMER",
    "IMAGENET",
    "OTHER_HEADS",
    "POOLED",
    "READ_BY_TRAINING",
    "SCHEMA_VERSION",
    "SHARED_CARDS",
    "VOLATILE_FIELDS",
    "Anchor",
    "AskedPrompts",
    "BackboneCard",
    "BackboneRef",
    "BackboneSpec",
    "BoxColumns",
    "Card",
    "Choice",
    "CocoData",
    "CollectionCard",
    "Contamination",
    "CsvData",
    "DatasetCard",
    "DatasetRef",
    "Deviation",
    "EncoderMode",
    "Epoch",
    "Experiment",
    "Fact",
    "Failure",
    "GridCard",
    "HeadFacts",
    "HeadSize",
    "Job",
    "Labels",
    "Later",
    "LineupCard",
    "MaskData",
    "Normalisation",
    "OwnData",
    "OwnSplit",
    "PairData",
    "Panel",
    "PanelCard",
    "PanelRow",
    "PanelScale",
    "PanelTask",
    "PaperCard",
    "PaperMethod",
    "PaperTable",
    "PretrainingCard",
    "PrintedMetric",
    "PromptCard",
    "PromptTemplate",
    "PromptTexts",
    "Protocol",
    "PublishedFile",
    "Recipe",
    "Record",
    "ReleaseCard",
    "ReleaseFile",
    "Role",
    "SplitCounts",
    "SplitRule",
    "StudyAblation",
    "StudyBudget",
    "StudyCard",
    "StudyClaim",
    "StudyEvaluation",
    "StudyLadder",
    "SuiteCard",
    "Switches",
    "Target",
    "TaskCard",
    "Words",
    "YoloData",
    "canonical_json",
    "digest_of",
]
