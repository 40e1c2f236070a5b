"""The 14 observations that CheXpert's labeler reports on, in the order of CheXpert's tables; MIMIC-CXR-JPG's tables sort them.

They stand here because readers and phantoms of several releases need the same names. Labels of one release stay with its reader.
"""

from __future__ import annotations

CHEXPERT_OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
