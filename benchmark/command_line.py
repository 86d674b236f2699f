"""The command line: python -m benchmark run | report | attack | tune | release | speed | list."""

import io
import sys
from pathlib import Path

import click
import torch

from attacks import MEANINGS, NORMS
from benchmark.attack import AUDITED, attack
from benchmark.locks import check_writable
from benchmark.options import (
    FOLDER,
    a_folder,
    check_precision,
    data_for,
    data_option,
    default_folder,
    device_option,
    engine_option,
    names,
    numbers,
    out_option,
    precision_option,
)
from benchmark.plan import plan, unchosen
from benchmark.provenance import commit
from benchmark.publish import check_report, collected, published_files, renew_report, report_files, write_report
from benchmark.release import release
from benchmark.run import run
from benchmark.speed import hours, measure
from benchmark.store import command, environment
from benchmark.suite import BUILT_IN, MOST_SEEDS, load_suite
from benchmark.tune import tune
from reports import render_speed
from zoo.compiler import compiler_fault
from zoo.config import MODELS
from zoo.data import DATASETS
from zoo.denormals import flushing
from zoo.errors import BadInput
from zoo.fused import Precision
from zoo.training import Engine


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train classifiers from few labels, attack them, and report what was measured."""


cli.add_command(run)


@cli.command()
@click.option("--suite", "name", help="A built-in suite, or a TOML file of your own.")
@out_option
@click.option("--merge", type=FOLDER, multiple=True, help="Another run of the suite; repeatable.")
@click.option(
    "--published", is_flag=True, help="All of published/, and its tables in README.md and docs/, instead of one suite."
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if what is there is not what the records give.")
def report(name: str | None, out: Path | None, merge: tuple[Path, ...], published: bool, check: bool) -> None:
    """Write the report of a run, complete or not, from its records."""
    if published == (name is not None) or (published and (out or merge)):
        raise BadInput("report: expected --suite NAME (with --out, --merge), or --published")
    folder = out or default_folder(str(name))
    for at, other in enumerate(merge):
        if other.resolve() in [each.resolve() for each in (folder, *merge[:at])]:
            raise BadInput(f"--merge {other}: the report has this run already, expected the folder of another")
    if not published and not check:
        renew_report(str(name), folder, merge)
        return
    if published:
        folders, files = published_files()
    else:
        folders, files = [folder / "report"], report_files(collected(str(name), [folder, *merge]), folder)
    if check:
        sys.exit(0 if check_report(files, folders) else 1)
    write_report(files, folders)
    for folder in folders:
        print(f"report: {folder / 'report.md'}")


@cli.command()
@click.option("--suite", "name", default="full", show_default=True, help="Whose models, batches and cells are meant.")
@click.option("--out", type=FOLDER, default=Path("runs/speed"), show_default=True, callback=a_folder)
@data_option
@device_option
@click.option("--models", type=names, default="", help="Only these, e.g. ladder,lvan-lw.")
@click.option("--labels", type=int, help="Of the cells that are timed; default: the suite's second count, or its only.")
@click.option(
    "--seeds", "counts", type=numbers, default="1,2", show_default=True, help="How many at once, e.g. 1,2,10."
)
@precision_option
@engine_option
@flushing()
def speed(
    name: str,
    out: Path,
    data: Path | None,
    device: str,
    models: tuple[str, ...],
    labels: int | None,
    counts: tuple[int, ...],
    precision: Precision | None,
    engine: Engine | None,
) -> None:
    """Time the engine beside the plain reference and beside what this machine could do at most."""
    suite = load_suite(name)
    at = [*suite.labels][min(1, len(suite.labels) - 1)] if labels is None else labels
    if min(counts) < 1 or max(counts) > MOST_SEEDS:
        raise BadInput(f"--seeds: expected numbers of seeds from 1 to {MOST_SEEDS}, e.g. 1,2,10")
    everything = plan(suite, name, precision=precision, chosen=True)
    cells = plan(suite, name, models=models, labels=(at,), precision=precision)
    check_precision(engine, cells)
    loaded = data_for(cells, data, device)
    check_writable(out)
    if engine is None and not loaded.images.is_cuda and (fault := compiler_fault()):
        print(f"eager steps, as {fault}")
    engine = engine or ("eager" if loaded.images.is_cuda or compiler_fault() else "compiled")
    measured = measure(cells, counts, loaded, engine)
    if measured.empty:
        raise BadInput("not enough GPU memory for any of these: give fewer --seeds, or --device cpu")
    where = environment(loaded.images.device)
    about = {"machine": f"{where['device']}, {where['threads']} threads", "torch": where["versions"]["torch"]}
    about |= {"commit": commit(where), "command": command()}
    about["cells"] = f"suite {name}, {at} labels"
    about["matrix peak"] = f"{measured['peak_gflops'].max():.0f} GFLOP/s"
    about["copy bandwidth"] = f"{measured['bandwidth_gbs'].max():.0f} GB/s, read and written"
    timed = [cell for cell in everything if cell.model.name in set(measured["model"])]
    of = f"{len(timed)} of {len(everything) + len(unchosen(suite))} cells of {name}"
    for kind, spent in hours(timed, measured, loaded).items():
        about[f"training {of}, {kind}, extrapolated"] = f"{spent:.2f} hours"
    write_report({out / name: content for name, content in render_speed(measured, about).items()}, [])
    print((out / "speed.md").read_text(encoding="utf-8"))


cli.add_command(attack)
cli.add_command(tune)
cli.add_command(release)


@cli.command(name="list")
def list_() -> None:
    """Show suites, models, attacks and data sets."""
    width = max(map(len, BUILT_IN))
    for name in BUILT_IN:
        print(f"suite    {name:<{width}}  {load_suite(name).description}")
    for kind, known in (
        ("model", MODELS),
        ("data", DATASETS),
        ("attack", [*(f"fgm {norm}" for norm in NORMS), *MEANINGS[1:], *AUDITED]),
    ):
        for name in known:
            print(f"{kind:<8} {name}")


def main() -> None:
    """Run the command line: exit code 2 and one line for what a user can mend, 130 when interrupted.

    A question mark stands for a character that a terminal, a pipe or a log cannot take.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        cli(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except (BadInput, OSError) as error:
        fail(str(error), 2)
    except torch.OutOfMemoryError as error:
        fail(f"not enough GPU memory ({error}): give fewer --seeds, or --device cpu", 2)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted; the same command goes on from here", 130)


def fail(message: str, code: int) -> None:
    """One line, and out."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
