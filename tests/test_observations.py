"""Names of observations are those that the releases' own tables print."""

from __future__ import annotations

from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.phantom.mimic_cxr import CLASSES

CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,"
    "Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
MIMIC_HEADER = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)


def test_chexperts_columns_are_its_observations_in_its_order() -> None:
    assert CHEXPERT_HEADER.split(",")[5:] == list(CHEXPERT_OBSERVATIONS)


def test_mimics_columns_are_the_same_observations_sorted() -> None:
    assert MIMIC_HEADER.split(",")[2:] == list(CLASSES)
