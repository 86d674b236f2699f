"""Virtual adversarial examples of a run's models, shown to all of them: VAT paper, section 4.4."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmark.attacking import VIRTUAL, checkpoint, diverged, finish, forget, load_seed, recorded, store
from benchmark.locks import alone
from benchmark.store import EXAMPLES, read_table, stages, write_table
from benchmark.suite import Cell
from benchmark.transfer import Tell, origins, sources, trained_anew
from zoo.classifier import Classifier
from zoo.data import Dataset
from zoo.denormals import kept
from zoo.randomness import stream

MEASURE, STAGE = "misidentified", "virtual"


def show_each_other(cells: Sequence[Cell], among: Sequence[Cell], data: Dataset, run: Path, tell: Tell) -> None:
    """What the records of cells lack of the errors on the examples of a run's models, and their own as images."""
    for cell in cells:
        if unshown(among, cell, run):
            tell(cell, "virtual adversarial examples")
            with alone(run / "cells" / cell.name, wait=True):
                if unshown(among, cell, run):  # else another run has done it meanwhile
                    store_shown(among, cell, data, run)
            tell(cell, "complete")


def unshown(cells: Sequence[Cell], cell: Cell, run: Path) -> bool:
    """Whether a record that could be made is missing, was of other images, or a maker has been trained anew since."""
    folder, radii = run / "cells" / cell.name, cell.attack.virtual
    if not radii:
        return False
    have = recorded(folder, MEASURE)
    before = {seed: stage.get("asked") for stage in stages(folder, STAGE) for seed in stage["seeds"]}
    other = any(before.get(seed) not in (None, asked(cell)) for seed in cell.seeds)  # an earlier version noted none
    return (
        other
        or trained_anew(STAGE, cells, cell, run)
        or any(
            (seed, VIRTUAL + maker.model.name, "L2", eps) not in have
            for seed in cell.seeds
            for maker in makers(cells, cell, run, seed)
            for eps in radii
        )
    )


def asked(cell: Cell) -> dict[str, int]:
    """How many images a cell is to be shown and how many of its own are to be kept, as the stage's note has it."""
    return {"images": cell.attack.virtual_images, "drawn": cell.attack.virtual_drawn}


def makers(cells: Sequence[Cell], cell: Cell, run: Path, seed: int) -> list[Cell]:
    """The models whose examples a cell is shown: its own and the others of its label count, where they are sound."""
    folder = run / "cells" / cell.name
    sound = checkpoint(folder, seed).is_file() and not diverged(folder, seed)
    return [cell, *sources(cells, cell, run, seed)] if sound else []


@kept()
@torch.no_grad()
def store_shown(cells: Sequence[Cell], cell: Cell, data: Dataset, run: Path) -> None:
    """Errors of a cell's checkpoints on the examples of each maker with the same seed; of its own some as images."""
    x, y = data.test_images[: cell.attack.virtual_images], data.test_labels[: cell.attack.virtual_images]
    folder, started = run / "cells" / cell.name, time.monotonic()
    have = read_table(folder / "examples.csv", EXAMPLES)  # an unreadable one is named before anything is measured
    rows: dict[int, list[Any]] = {}
    images: list[Any] = []
    for seed in cell.seeds:
        shown: Classifier | None = None
        for maker in makers(cells, cell, run, seed):
            model = load_seed(run / "cells" / maker.name, seed, data.images.device)
            shown = shown or model  # the first maker is the cell itself
            r = directions(model, x, seed)
            for eps in (0.0, *cell.attack.virtual):
                moved = x + eps * r
                if eps:
                    wrong = (shown(moved).argmax(1) != y).double().mean().item()
                    rows.setdefault(seed, []).append((MEASURE, VIRTUAL + maker.model.name, "L2", eps, wrong, len(x)))
                if maker == cell:
                    images += drawn(model, moved, y, seed, eps, cell.attack.virtual_drawn)
    forget(folder, list(rows), lambda attack: attack.startswith(VIRTUAL))
    finish(STAGE, list(rows), started, data, folder, sources=origins(cells, cell, run), asked=asked(cell))
    new = pd.DataFrame(images, columns=list(EXAMPLES)).astype(EXAMPLES)
    kept_before = have[~have["seed"].isin(rows)]
    if len(have) or len(new):
        write_table(folder / "examples.csv", pd.concat([kept_before, new], ignore_index=True), EXAMPLES)
    store(folder, rows)  # last: they say that all of it is done


def directions(model: Classifier, x: Tensor, seed: int) -> Tensor:
    """r_vadv / eps of each x by one power iteration, from random directions that a seed's models share."""
    start = torch.randn(x.shape, generator=stream(seed, "virtual", 0, x.device), device=x.device)
    return model.virtual_adversarial(x, start, 1)


def drawn(model: Classifier, moved: Tensor, labels: Tensor, seed: int, eps: float, count: int) -> list[Any]:
    """Rows of EXAMPLES: of so many classes the first image, clipped to [0, 1], two hex digits a pixel."""
    first = {label: index for index, label in reversed([*enumerate(labels.tolist())])}
    chosen = [first[label] for label in sorted(first)[:count]]
    bytes_of = (255 * moved[chosen].clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
    predicted = model(moved[chosen]).argmax(1).tolist()
    of = zip(chosen, labels[chosen].tolist(), predicted, bytes_of, strict=True)
    return [(seed, eps, index, label, said, pixels.tobytes().hex()) for index, label, said, pixels in of]
