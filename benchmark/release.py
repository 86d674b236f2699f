"""python -m benchmark release: a run's complete cells into published/, a small checkpoint of each model with them."""

import functools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from torch import nn

from attacks import measure_fgm
from benchmark.attack import trained_cells, with_checkpoints
from benchmark.attacking import checkpoint, load_seed, unattacked, unaudited
from benchmark.locks import alone
from benchmark.normalised import unnormalised
from benchmark.options import data_for, data_option, default_folder, device_option, out_option, suite_option
from benchmark.plan import plan
from benchmark.publish import PUBLISHED, README, published_files, write_report
from benchmark.store import stages
from benchmark.suite import BUILT_IN, Cell, load_suite
from zoo.checkpoints import load_checkpoint, read_card, save_small, write_whole
from zoo.data import Dataset
from zoo.errors import BadInput

RECORDED = ("config.json", "examples.csv", "history.csv", "provenance.json", "records.csv")
TUNED = ("tuning/tuning.csv", "tuning/provenance.json", "tuning/config.json")
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
    if not README.is_file():
        raise BadInput(f"{README} is missing: release is for the project's own checkout, in its folder")
    suite, folder = load_suite(name), out or default_folder(name)
    planned = plan(suite, name, chosen=True)
    wanted = {cell.name: cell.seeds for cell in planned}
    tuned = [file for file in TUNED if (folder / file).is_file()]
    cells = [] if tuned and not with_checkpoints(planned, folder) else trained_cells(planned, folder)
    loaded = functools.cache(lambda: data_for(cells, data, device))
    released = len(tuned)
    for cell in cells:
        own, to = folder / "cells" / cell.name, PUBLISHED / name / "cells" / cell.name
        with alone(own, wait=True):
            lacking = unattacked(cell.attack, cell.seeds, own) or unnormalised(cell, own)
            if cell.seeds != wanted[cell.name] or lacking:
                print(f"{cell.name}: not complete, left out")
                continue
            audited = not unaudited(cell.attack, cell.seeds, own)
            if not audited and stages(to, "audit"):
                print(f"{cell.name}: not audited, as what is published is: left out")
                continue
            for file in RECORDED:
                publish(own / file, to / file)
            released, small = released + 1, ""
            if cell.training.labels == min(suite.labels):
                small = release_checkpoint(cell, own, PUBLISHED / "cells" / cell.name, loaded())
        print(f"{cell.name}: records{'' if audited else ', not audited'}{small}")
    for file in tuned:
        publish(folder / file, PUBLISHED / name / file)
    if not released:
        raise BadInput(f"{folder} has no complete cell to release: run the suite first")
    folders, files = published_files()
    write_report(files, folders)


def publish(path: Path, to: Path) -> None:
    """Copy a file; where there is none, none stays of earlier days."""
    if path.is_file():
        write_whole(to, path.read_bytes())
    else:
        to.unlink(missing_ok=True)


def release_checkpoint(cell: Cell, own: Path, to: Path, data: Dataset) -> str:
    """Write the first seed's small checkpoint, and say so; or why not: another suite's is there, or rounding shows."""
    seed = cell.seeds[0]
    path, released = checkpoint(own, seed), checkpoint(to, seed)
    if released.is_file() and read_card(released).get("fingerprint") != read_card(path).get("fingerprint"):
        return f"; no small checkpoint: {released} is of another suite, delete it to have this one's"
    model = load_seed(own, seed, data.images.device)
    before = errors(model, cell, data)
    with TemporaryDirectory() as folder:
        small = checkpoint(Path(folder), seed)
        for finer in (False, True):
            save_small(small, model, finer=finer)
            after = errors(load_checkpoint(small, data.images.device), cell, data)
            points = 100 * max(abs(one - other) for one, other in zip(before, after, strict=True))
            points = round(points, 9)  # 0.02, not more
            if points <= MOST_POINTS:
                publish(small, released)
                return f", a small checkpoint with errors within {points:.2f} points"
    released.unlink(missing_ok=True)
    return f"; no small checkpoint, its errors would differ by {points:.2f} points"


def errors(model: nn.Module, cell: Cell, data: Dataset) -> Sequence[float]:
    """Clean and attacked errors on the test images, at the suite's norms and eps."""
    of = cell.attack
    found = measure_fgm(model, data.test_images, data.test_labels, norms=of.norms, eps=of.eps)
    return [found[0].clean_error, *(each.attacked_error for each in found)]
