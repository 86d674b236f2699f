"""python -m benchmark run: whatever is missing of a suite, here, in several processes or on a cluster; the report."""

import sys
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import click
import torch

from benchmark.attack import with_checkpoints
from benchmark.cell import run_cell
from benchmark.dispatch import dispatch
from benchmark.locks import alone, own_folder
from benchmark.memory import check_room, fitting
from benchmark.options import (
    SHARD,
    check_precision,
    data_for,
    data_option,
    default_folder,
    device_option,
    engine_option,
    gpus,
    names,
    numbers,
    out_option,
    precision_option,
    suite_option,
)
from benchmark.plan import plan, resolved
from benchmark.progress import Progress
from benchmark.publish import renew_report
from benchmark.store import command, environment, write_json
from benchmark.suite import Cell, load_suite
from benchmark.todo import show_plan, still_to_do
from benchmark.transfer import transfer, untransferred
from benchmark.virtual import show_each_other, unshown
from benchmark.workers import Here, Job, Workers
from zoo.data import Dataset
from zoo.denormals import flushing
from zoo.errors import BadInput
from zoo.fused import Precision
from zoo.training import Engine


@click.command()
@suite_option
@out_option
@data_option
@device_option
@click.option("--models", type=names, default="", help="Only these, e.g. ladder,lvan-lw.")
@click.option("--labels", type=numbers, default="", help="Only these label counts, e.g. 50,100.")
@click.option("--seeds", type=numbers, default="", help="These seeds instead of the suite's, e.g. 0,1.")
@precision_option
@engine_option
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Cells at once, in so many processes, as far as there is memory. Default: one by one, in this one.",
)
@click.option(
    "--engine",
    "where",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where cells run: on this machine, or on the nodes of a Ray cluster.",
)
@click.option("--ray-address", help="With --engine ray: of the cluster, e.g. auto. Default: one is started here.")
@click.option(
    "--gpus-per-cell", type=click.FloatRange(min=0), callback=gpus, help="With --engine ray, e.g. 0.5. Default: none."
)
@click.option("--no-audit", is_flag=True, help="Leave the suite's audit to the command `attack`.")
@click.option("--fresh", is_flag=True, help="Start over the cells whose configuration in the folder is another.")
@click.option("--shard", type=SHARD, help="Only the i-th of n parts of the cells, e.g. 3/16: for arrays of batch jobs.")
@click.option("--dry-run", is_flag=True, help="Show cells, their state, estimated time and memory; train nothing.")
@click.option("--devices", type=click.IntRange(min=1), help="With --dry-run: time on so many devices.")
@flushing()
def run(
    name: str,
    out: Path | None,
    data: Path | None,
    device: str,
    models: tuple[str, ...],
    labels: tuple[int, ...],
    seeds: tuple[int, ...],
    precision: Precision | None,
    engine: Engine | None,
    jobs: int | None,
    where: str,
    ray_address: str | None,
    gpus_per_cell: float | None,
    no_audit: bool,
    fresh: bool,
    shard: tuple[int, int] | None,
    dry_run: bool,
    devices: int | None,
) -> None:
    """Finish whatever is missing of a suite: train, attack, report. Interrupted, the same command goes on."""
    suite = load_suite(name)
    cells = plan(suite, name, models=models, labels=labels, seeds=seeds, precision=precision)
    cells = cells if shard is None else cells[shard[0] - 1 :: shard[1]]
    if no_audit:
        cells = [replace(cell, attack=replace(cell.attack, audit=None)) for cell in cells]
    if not cells:
        raise BadInput(f"--shard: {name} has fewer cells than parts")
    check_precision(engine, cells)
    if devices is not None and not dry_run:
        raise BadInput("--devices belongs to --dry-run: to run on several devices, see --shard and --engine ray")
    check_place(where, jobs, ray_address, gpus_per_cell)
    folder = out or default_folder(name)
    for own in (folder / "report", *(folder / "cells" / cell.name for cell in cells)):
        own_folder(own)
    apart = not dry_run and (jobs is not None or where == "ray")
    todo = {cell.name: still_to_do(cell, folder, fresh, apart=apart) for cell in cells}
    if dry_run:
        show_plan(cells, todo, folder, data_for(cells, data, device), engine, devices or 1)
        return
    failed: dict[str, str] = {}
    missing = [cell for cell in cells if todo[cell.name].state != "complete"]
    together = [] if shard else cells  # what models do to each other is measured by one who sees all records
    audited = [cell for cell in together if cell.attack.audit]
    others = plan(suite, name, seeds=seeds, chosen=True)  # sources, those that are not asked for too
    shown = [cell for cell in together if cell.attack.virtual]
    unread = {name for name, each in todo.items() if each.state == "unreadable"}

    def sources(unreadable: set[str]) -> list[Cell]:
        return with_checkpoints(without(unreadable, others), folder) if audited or shown else []

    among = sources(unread)
    lacking = any(untransferred(among, cell, folder) for cell in audited)
    if missing or lacking or any(unshown(among, cell, folder) for cell in shown):
        loaded = data_for(cells, data, device if where == "local" else "cpu")  # a cluster's head may have no GPU
        for cell in missing if where == "local" else ():  # elsewhere each node has its own
            check_room(cell, todo[cell.name].seeds, loaded.images.device)
        about = {"suite": name, "command": command(), "environment": environment(loaded.images.device)}
        about |= {"cells": resolved(plan(suite, name, chosen=True)), "checksums": loaded.checksums}
        with alone(folder, wait=True, linked=True):
            write_json(folder / "suite.json", about)
        threads = max(1, torch.get_num_threads() // (jobs or 1))
        job = Job(folder, data, device, engine, fresh, threads, sys.argv)
        with Progress(cells, [each.state for each in todo.values()]) as progress:
            if where == "ray":
                failed = finish_on_ray(missing, job, ray_address, gpus_per_cell or 0, loaded, progress)
            else:
                failed = finish(missing, job, jobs, loaded, progress)
            among = sources(unread & failed.keys())
            transfer(without(failed, audited), among, loaded, folder, progress.change)
            show_each_other(without(failed, shown), among, loaded, folder, progress.change)
    else:
        print(f"{folder}: all {len(cells)} cells are complete, nothing to do")
    try:
        renew_report(name, folder)
    except BadInput as error:
        if not failed:  # which may be why
            raise
        print(f"no report: {error}")
    if failed:
        raise CellsFailed(failed, len(cells))


def check_place(where: str, jobs: int | None, ray_address: str | None, gpus_per_cell: float | None) -> None:
    """Raises BadInput for flags of the place where cells do not run."""
    if where == "local" and (ray_address is not None or gpus_per_cell is not None):
        raise BadInput("--ray-address and --gpus-per-cell belong to --engine ray")
    if where == "ray" and jobs is not None:
        raise BadInput("--jobs belongs to --engine local: a cluster takes as many cells as it has cores or GPUs")


def without(names: Container[str], cells: Sequence[Cell]) -> list[Cell]:
    """The other cells."""
    return [cell for cell in cells if cell.name not in names]


class CellsFailed(click.ClickException):
    """What ends a run, with exit code 1, in which some cells failed and the rest were finished."""

    def __init__(self, failed: dict[str, str], cells: int) -> None:
        shown = ", ".join(f"{name} ({reason})" for name, reason in list(failed.items())[:3])
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        super().__init__(f"{len(failed)} of {cells} cells failed: {shown}{more}; the same command tries them again")


def finish(missing: Sequence[Cell], job: Job, jobs: int | None, data: Dataset, progress: Progress) -> dict[str, str]:
    """Run the cells; the reasons of those that failed, by name."""
    if jobs is not None:
        with Workers(fitting(jobs, missing, data), job) as workers:
            return dispatch(missing, workers, progress, job.folder)

    def alone_here(cell: Cell) -> None:
        folder = job.folder / "cells" / cell.name
        with alone(folder):
            run_cell(cell, data, folder, progress, job.engine, fresh=job.fresh)

    return dispatch(missing, Here(alone_here), progress, job.folder)


def finish_on_ray(
    missing: Sequence[Cell], job: Job, address: str | None, gpus: float, data: Dataset, progress: Progress
) -> dict[str, str]:
    """Run the cells on a cluster; the reasons of those that failed, by name."""
    try:
        from benchmark.on_ray import Cluster  # an extra
    except ImportError as error:
        raise BadInput(f"--engine ray: {error}; install the project with its extra [ray]") from error
    with Cluster(address, gpus, job, data) as cluster:
        return dispatch(missing, cluster, progress, job.folder)
