"""The device to train on, set to reproduce its bits."""

from __future__ import annotations

import os

import torch

from training.errors import TrainingError


def choose_device(name: str, threads: int) -> torch.device:
    """``auto``, ``cpu`` or ``cuda``, set to reproduce its bits on the same machine, versions and number of threads.

    Raises TrainingError when it is ``cuda`` and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device is cuda, but torch finds no CUDA device; use auto or cpu")
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    # What torch.use_deterministic_algorithms(True) sets, without the compiler that it imports for a second.
    torch.set_deterministic_debug_mode("error")
    # Not the debugging aid that comes with it and costs a twentieth of the speed.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Full fp32 where fp32 is asked for: no TF32 on CUDA.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
