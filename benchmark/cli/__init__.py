"""The command `lobe`: words, bars and tables around `benchmark.api`.

Thin on purpose, and free of torch, Ray and MLflow until a verb needs them. One module for each group of verbs, all imported here.
"""

from benchmark.cli import backbones, cluster, data, listing, machine, new, own, panel, pretrain, results, run, study, submissions, weights
from benchmark.cli.app import app, main

__all__ = [
    "app",
    "backbones",
    "cluster",
    "data",
    "listing",
    "machine",
    "main",
    "new",
    "own",
    "panel",
    "pretrain",
    "results",
    "run",
    "study",
    "submissions",
    "weights",
]
