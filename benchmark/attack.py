"""python -m benchmark attack: a run's checkpoints again, or anyone's model, under attack and audit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pandas as pd

from attacks import MEANINGS, NORMS, Budget
from benchmark.attacking import checkpoint, recorded
from benchmark.cell import as_trained, attack_cell, check_same
from benchmark.locks import alone
from benchmark.options import (
    CommaList,
    data_for,
    default_folder,
    device_option,
    names,
    numbers,
    out_option,
    pick_device,
)
from benchmark.own_model import attack_own_model
from benchmark.plan import plan
from benchmark.progress import Progress
from benchmark.provenance import unique
from benchmark.publish import renew_report, write_report
from benchmark.store import stages
from benchmark.suite import AttackConfig, Cell, load_suite, validated
from benchmark.transfer import transfer
from reports import OF_ATTACKS, render
from zoo.data import Dataset, load_dataset
from zoo.errors import BadInput, unknown

AUDITED = ("single-step", "pgd", "fmn", "hsj", "noise-uniform", "noise-gaussian", "worst", "transfer")
"""What an audit's records call its attacks."""
real_numbers = CommaList(float, "numbers")
CURVES = load_suite("full").attack.curve


@click.command()
@click.option("--suite", "name", help="Attack the checkpoints of this suite's run.")
@click.option("--model", "factory", help="Attack the model that package.module:factory makes.")
@out_option
@click.option("--data", "data", help="With --suite: the data's folder. With --model: a data set, e.g. mnist.")
@device_option
@click.option("--models", type=names, default="", help="Only these, e.g. ladder,lvan-lw.")
@click.option("--labels", type=numbers, default="", help="Only these label counts, e.g. 50,100.")
@click.option("--seeds", type=numbers, default="", help="Only these seeds, e.g. 0,1.")
@click.option("--norms", type=names, default="", help=f"Of the fast gradient method: {', '.join(NORMS)}.")
@click.option("--eps", type=real_numbers, default="", help="Of the fast gradient method, e.g. 0.1,0.2.")
@click.option("--images", type=click.IntRange(min=1), help="Test images of an audit; default: the suite's, else 1000.")
def attack(
    name: str | None,
    factory: str | None,
    out: Path | None,
    data: str | None,
    device: str,
    models: tuple[str, ...],
    labels: tuple[int, ...],
    seeds: tuple[int, ...],
    norms: tuple[str, ...],
    eps: tuple[float, ...],
    images: int | None,
) -> None:
    """Attack and audit what is trained, and report: what the records lack is made, nothing is trained."""
    if (name is None) == (factory is None):
        raise BadInput("attack: expected either --suite NAME or --model package.module:factory")
    if data == "":
        raise BadInput("--data: expected a folder, or with --model a data set, got an empty name")
    if factory is not None:
        if models or labels or seeds:
            raise BadInput("attack --model: --models, --labels and --seeds belong to --suite")
        config = changed(AttackConfig(tuple(NORMS), (0.3,), MEANINGS, CURVES), norms, eps, images)
        folder = out or Path("runs") / factory.replace(":", ".")
        if (folder / "cells").is_dir():
            raise BadInput(f"--out {folder} is the folder of a run: name another one for {factory}")
        loaded = load_dataset(data or "mnist").to(pick_device(device))
        records = attack_own_model(factory, loaded, config, folder)
        about = {"suite": factory} | made(folder)
        found = render(records, pd.DataFrame(), pd.DataFrame(), about, OF_ATTACKS)
        write_report({folder / "report" / name: content for name, content in found.items()}, [folder / "report"])
        print(f"report: {folder / 'report' / 'report.md'}")
    else:
        suite, folder = load_suite(str(name)), out or default_folder(str(name))
        suite = replace(suite, attack=changed(suite.attack, norms, eps, images))
        cells = plan(suite, str(name), models=models, labels=labels, seeds=seeds, chosen=not models)
        cells = trained_cells(cells, folder)
        sources = trained_cells(plan(suite, str(name), seeds=seeds, chosen=True), folder)
        attack_run(cells, sources, data_for(cells, Path(data) if data else None, device), folder)
        renew_report(str(name), folder)


def made(folder: Path) -> dict[str, Any]:
    """By whom and with what the attacks on one's own model were made: each command, commit, machine once."""
    sittings = [sitting for stage in stages(folder) for sitting in stage["sittings"]]
    facts = [{"command": sitting["command"], **sitting["environment"]} for sitting in sittings]
    values = {key: [fact[key] for fact in facts] for key in (facts[0] if facts else ())}
    return {key: of[0] if all(each == of[0] for each in of) else unique(map(str, of)) for key, of in values.items()}


def changed(attack: AttackConfig, norms: tuple[str, ...], eps: tuple[float, ...], images: int | None) -> AttackConfig:
    """A suite's attacks with what was typed in its place; with an audit, the default one where the suite has none."""
    budget = attack.audit or Budget()
    budget = budget if images is None else replace(budget, images=images)
    curve = {} if eps else {norm: radii for norm, radii in attack.curve.items() if norm in (norms or NORMS)}
    for norm in norms:
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
    given = {"norms": norms or attack.norms, "eps": eps or attack.eps, "curve": curve, "audit": budget}
    return validated(AttackConfig, vars(attack) | given, "--eps")


def trained_cells(cells: list[Cell], folder: Path) -> list[Cell]:
    """The cells with the seeds that have checkpoints. Raises BadInput where there are none, or of another suite."""
    found = with_checkpoints(cells, folder)
    for cell in found:
        check_same(cell, folder / "cells" / cell.name)
    if not found:
        raise BadInput(f"{folder} has no checkpoint of these cells: run the suite first, or name its folder with --out")
    return found


def with_checkpoints(cells: Sequence[Cell], folder: Path) -> list[Cell]:
    """The cells that have checkpoints, of the seeds that have; whatever they were trained by."""
    found = []
    for cell in cells:
        own = folder / "cells" / cell.name
        have = {seed for seed, *_ in recorded(own, "test_error")}
        if seeds := tuple(seed for seed in cell.seeds if checkpoint(own, seed).is_file() and seed in have):
            found.append(replace(as_trained(cell, own), seeds=seeds))
    return found


def attack_run(cells: list[Cell], sources: list[Cell], data: Dataset, folder: Path) -> None:
    """Make what the records of trained cells lack: attacks and audits cell by cell, then transfer from all sources."""
    with Progress(cells, ["to attack"] * len(cells)) as progress:
        for cell in cells:
            with alone(folder / "cells" / cell.name, wait=True):
                attack_cell(cell, data, folder / "cells" / cell.name, progress)
        transfer(cells, sources, data, folder, progress.change)
