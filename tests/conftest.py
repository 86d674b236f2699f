"""What several test files need."""

import os
from pathlib import Path

import pytest
import torch

from zoo import data

# Tensors this small wait for each other's threads: several times slower on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist():
    """The real MNIST, or a skip that says what is missing; on CI a missing MNIST is a failure."""
    folder = Path(os.environ.get("BENCHMARK_DATA") or data.cache()) / "MNIST" / "raw"
    missing = [file for file in data.FILES if not (folder / file).is_file()]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{folder} lacks {missing[0]}: set BENCHMARK_DATA")
    return data.load_dataset("mnist")
