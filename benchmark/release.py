"""python -m benchmark release: a run's complete cells into published/, a small checkpoint of each model with them."""

from collections.abc import Sequence
from pathlib import Path

import click
from torch import nn

from attacks import measure_fgm
from benchmark.attack import trained_cells
from benchmark.attacking import checkpoint, unattacked
from benchmark.options import data_for, data_option, default_folder, device_option, out_option, suite_option
from benchmark.publish import PUBLISHED, published_files, write_report
from benchmark.suite import BUILT_IN, Cell, load_suite, plan
from zoo.checkpoints import load_checkpoint, save_small, write_whole
from zoo.data import Dataset
from zoo.errors import BadInput

RECORDED = ("config.json", "examples.csv", "history.csv", "provenance.json", "records.csv")
TUNED = ("tuning/tuning.csv", "tuning/provenance.json")
MOST_POINTS = 0.02  # of error, clean or attacked, by which a small checkpoint may differ


@click.command()
@suite_option
@out_option
@data_option
@device_option
def release(name: str, out: Path | None, data: Path | None, device: str) -> None:
    """Publish the records of a run's complete cells, a small checkpoint of each model, and the reports on them."""
    if name not in BUILT_IN:
        raise BadInput(f"release --suite {name}: expected a built-in suite: {', '.join(BUILT_IN)}")
    suite, folder = load_suite(name), out or default_folder(name)
    wanted = {cell.name: cell.seeds for cell in plan(suite, name)}
    cells = trained_cells(plan(suite, name), folder)
    loaded = data_for(cells, data, device)
    for cell in cells:
        own = folder / "cells" / cell.name
        if cell.seeds != wanted[cell.name] or unattacked(cell.attack, cell.seeds, own):
            print(f"{cell.name}: not complete, left out")
            continue
        for file in RECORDED:
            publish(own / file, PUBLISHED / name / "cells" / cell.name / file)
        small = ""
        if cell.training.labels == min(suite.labels):
            points = release_checkpoint(cell, own, PUBLISHED / "cells" / cell.name, loaded)
            small = f", a small checkpoint with errors within {points:.2f} points"
            if points > MOST_POINTS:
                small = f"; no small checkpoint, its errors would differ by {points:.2f} points"
        print(f"{cell.name}: records{small}")
    for file in TUNED:
        publish(folder / file, PUBLISHED / name / file)
    folders, files = published_files()
    write_report(files, folders)


def publish(path: Path, to: Path) -> None:
    """Copy a file, if it is there."""
    if path.is_file():
        write_whole(to, path.read_bytes())


def release_checkpoint(cell: Cell, own: Path, to: Path, data: Dataset) -> float:
    """Write the first seed's small checkpoint; the most that an error on the test images changed, in points.

    Where that is more than `MOST_POINTS` the file is taken away again.
    """
    seed = cell.seeds[0]
    model = load_checkpoint(checkpoint(own, seed), data.images.device)
    save_small(checkpoint(to, seed), model)
    before, after = (
        errors(each, cell, data) for each in (model, load_checkpoint(checkpoint(to, seed), data.images.device))
    )
    points = round(100 * max(abs(one - other) for one, other in zip(before, after, strict=True)), 9)  # 0.02, not more
    if points > MOST_POINTS:
        checkpoint(to, seed).unlink()
    return points


def errors(model: nn.Module, cell: Cell, data: Dataset) -> Sequence[float]:
    """Clean and attacked errors on the test images, at the suite's norms and eps."""
    of = cell.attack
    found = measure_fgm(model, data.test_images, data.test_labels, norms=of.norms, eps=of.eps)
    return [found[0].clean_error, *(each.attacked_error for each in found)]
