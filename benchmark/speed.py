"""How fast the engine is: beside the plain reference, and beside what the machine could do at most.

All is measured in one run, taking turns: single steps of the reference (one seed after another, eager, float32), of
the engine (all seeds at once), the matrix peak and the copy bandwidth.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmark.suite import Cell
from zoo.data import Dataset
from zoo.fused import Precision
from zoo.models import create
from zoo.training import Engine, Training

STEPS, ROUNDS = {"cpu": 5, "cuda": 50}, 5  # on a GPU many: what an epoch begins with takes as long as several steps
SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices that the peak is measured with
COPIED = 2**26  # numbers, 256 MiB: more than any cache


def measure(cells: Sequence[Cell], counts: Sequence[int], data: Dataset, engine: Engine) -> pd.DataFrame:
    """One row a cell and number of seeds: milliseconds a seed-step, floor and memory; see COLUMNS in reports."""
    rows = []
    bandwidth = copy_bandwidth(data.images.device)
    for cell in cells:
        peak = matrix_peak(cell.training.precision, data.images.device)
        for count in counts:
            try:
                rows.append(row(cell, count, data, engine, peak, bandwidth))
            except torch.OutOfMemoryError:
                print(f"{cell.model.name}, {count} seeds: not enough GPU memory, left out", file=sys.stderr)
    return pd.DataFrame(rows)


def row(cell: Cell, count: int, data: Dataset, engine: Engine, peak: float, bandwidth: float) -> dict[str, object]:
    """A cell with so many seeds; the peak in operations a second, the bandwidth in bytes."""
    seeds = tuple(range(count))
    alone = replace(cell, seeds=(0,), training=replace(cell.training, precision="float32"))
    plain, all_at_once = begin(alone, data, "reference"), begin(replace(cell, seeds=seeds), data, engine)
    reset_peak_memory(data.images.device)
    turns = [(seconds_a_step(plain), seconds_a_step(all_at_once)) for _ in range(ROUNDS + 1)][1:]
    reference, fast = (statistics.median(column) for column in zip(*turns, strict=True))
    memory = peak_memory(data.images.device)
    operations, moved = work(begin(replace(cell, seeds=seeds), data))
    floor = max(operations / peak, moved / bandwidth)
    return {
        "model": cell.model.name,
        "seeds": count,
        "engine": engine,
        "precision": cell.training.precision,
        "reference_ms": 1e3 * reference,
        "engine_ms": 1e3 * fast / count,
        "ratio": reference * count / fast,
        "floor_ms": 1e3 * floor / count,
        "floor_share": floor / fast,
        "bound_by": "operations" if operations / peak > moved / bandwidth else "bytes",
        "peak_gflops": peak / 1e9,
        "bandwidth_gbs": bandwidth / 1e9,
        "memory_gib": memory / 2**30,
    }


def begin(cell: Cell, data: Dataset, engine: Engine = "eager") -> Training:
    """A training that has not taken a step."""
    return Training(cell.training, create(cell.model, cell.seeds), cell.seeds, data, engine)


def seconds_a_step(training: Training, steps: int | None = None) -> float:
    """Wall-clock seconds of one step of all seeds, the mean of some, the first of its schedule."""
    training.epoch = 0  # at its learning rate, however short the schedule
    training.steps = steps = steps or STEPS[training.device.type]
    return seconds(training.run_epoch, training.device) / steps


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a call, a GPU's queue included."""
    synchronise(device)
    started = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Wait for a GPU's queue; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_peak(precision: Precision, device: torch.device) -> float:
    """Operations a second of a large product, the best of several."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    side = SIDES[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    best = min(seconds(lambda: a @ b, device) for _ in range(2 * ROUNDS))
    torch.set_float32_matmul_precision(before)
    return float(2 * side**3 / best)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of a large copy, the best of several."""
    source = torch.ones(COPIED, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(2 * ROUNDS))


def work(training: Training) -> tuple[int, int]:
    """What one step cannot do without: operations of its matrix products, and bytes that it must move.

    Bytes: Adam reads four numbers a parameter and writes three; noise is written and read; whatever the backward pass
    needs of the forward pass is written and read.
    """
    with FlopCounterMode(display=False) as counter:
        activations = kept_for_backward(training)
    adam = 7 * sum(parameter.nbytes for parameter in training.model.parameters())
    return counter.get_total_flops(), adam + 2 * training.flat_noise.nbytes + 2 * activations


def kept_for_backward(training: Training) -> int:
    """Bytes that one step keeps of its forward pass for the backward pass, parameters and noise not among them."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        training.compute()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*training.model.parameters(), training.flat_noise)}
    return sum(size for pointer, size in kept.items() if pointer not in own)


def reset_peak_memory(device: torch.device) -> None:
    """Forget what a GPU held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes at most in use: on a GPU of tensors since the reset, on a CPU of the whole process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # only here: not every system has it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def hours(cells: Sequence[Cell], measured: pd.DataFrame, data: Dataset) -> dict[str, float]:
    """Hours that training all cells takes with the engine and with the reference, from their models' steps.

    A cell takes the time of the measured number of seeds that is nearest to its own. Raises KeyError for a model that
    was not measured.
    """
    found = {"engine": 0.0, "reference": 0.0}
    for cell in cells:
        of_model = measured[measured["model"] == cell.model.name]
        if of_model.empty:
            raise KeyError(cell.model.name)
        row = of_model.iloc[(of_model["seeds"] - len(cell.seeds)).abs().argmin()]
        seed_steps = cell.training.updates(len(data.images)) * cell.training.epochs * len(cell.seeds)
        for kind in found:
            found[kind] += seed_steps * row[f"{kind}_ms"] / 3.6e6
    return found
