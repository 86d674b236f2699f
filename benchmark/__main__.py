"""The command line: python -m benchmark run | report | list."""

from pathlib import Path

import click
import torch

from benchmark.cell import run_cell
from benchmark.suite import load_suite, plan
from zoo.data import load_dataset


@click.group()
def cli() -> None:
    pass


@cli.command()
@click.option("--suite", required=True)
@click.option("--out")
@click.option("--data")
@click.option("--models", default="")
@click.option("--labels", default="")
def run(suite, out, data, models, labels):
    cells = plan(
        load_suite(suite),
        suite,
        models=[m for m in models.split(",") if m],
        labels=[int(x) for x in labels.split(",") if x],
    )
    d = load_dataset(load_suite(suite).dataset, data)
    for cell in cells:
        run_cell(
            cell,
            d,
            Path(out or f"runs/{suite}") / "cells" / cell.name,
            lambda c, e, err: print(c.name, e, err, flush=True),
        )


def main() -> None:
    torch.set_flush_denormal(True)
    cli()


if __name__ == "__main__":
    main()
