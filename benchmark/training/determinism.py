"""Threads and algorithms of a process, set before the first operation, so that a job gives the same bits in any executor and worker."""

from __future__ import annotations

import os

import torch


def prepare_process(threads: int) -> None:
    """Sets torch, OpenMP and OpenCV threads and deterministic algorithms.

    Args:
        threads: CPU threads of the job; part of its key.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    import cv2

    cv2.setNumThreads(threads)
