"""Threads, algorithms and memory of a process, set before the first operation: a job gives the same bits in any executor and worker."""

from __future__ import annotations

import os

import torch

from benchmark.errors import DeviceMissing
from benchmark.training.free_memory import keep_large_apart


def prepare_process(threads: int) -> None:
    """Sets torch, OpenMP and OpenCV threads, deterministic algorithms, and what becomes of freed memory.

    What an author's network may have set for the whole process, in a unit before, is set back: gradients, type and precision.

    Args:
        threads: CPU threads of the job; part of its key.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    keep_large_apart()
    import cv2

    cv2.setNumThreads(threads)


def required_device(device_type: str) -> torch.device:
    """The device of that type. Nothing falls back to the CPU: its numbers would stand under the key of another device.

    Raises:
        DeviceMissing: this process has no such device.
    """
    if device_type != "cuda" or torch.cuda.is_available():
        return torch.device(device_type)
    if torch.version.cuda is None:
        why = "torch was built without CUDA"
    elif os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        why = "CUDA_VISIBLE_DEVICES is empty"
    else:
        why = f"torch (CUDA {torch.version.cuda}) finds no device"
    raise DeviceMissing(f"The job is planned for a GPU and its process has none: {why}. `lobe doctor` on that machine says how to mend it.")
