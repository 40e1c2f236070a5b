"""What a job states of its process is what the process has."""

from __future__ import annotations

import os

import cv2
import pytest
import torch

from benchmark.training.determinism import prepare_process


@pytest.fixture
def as_before():
    yield
    prepare_process(1)


@pytest.mark.parametrize("threads", [2, 1])
@pytest.mark.usefixtures("as_before")
def test_threads_of_a_job_reach_every_library(threads):
    prepare_process(threads)
    assert (torch.get_num_threads(), cv2.getNumThreads(), os.environ["OMP_NUM_THREADS"]) == (threads, threads, str(threads))
    assert torch.are_deterministic_algorithms_enabled()
