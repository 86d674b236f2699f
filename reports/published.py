"""Published figures to compare with, all on MNIST and all in % error.

`table1`, `table2`: Tables 1 and 2 of "Virtual Adversarial Ladder Networks for Semi-Supervised Learning", as
printed. `runs`, `attacks`: what the training and attack logs say that its authors released (repository
sakishinoda/tf-ssl). Where paper and logs disagree the docstring of the loader says so.
"""

from pathlib import Path

import pandas as pd

DATASET = "mnist"
EPS = 0.3
# Table 2 exchanges L1 and L2: its abstract and the released logs give as L2 what the table prints as L1.
# The L1 step of 2017 spread eps over all pixels.
CORRECTED_NORM = {"L1": "L2", "L2": "L1-spread", "Linf": "Linf"}
LOGGED_NORM = {"L1": "L1-spread", "L2": "L2", "Linf": "Linf"}


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name(f"published_{name}.csv"), dtype={"mean": str, "spread": str})


def _with_printed(table: pd.DataFrame) -> pd.DataFrame:
    printed = table["mean"] + " ± " + table["spread"]
    return table.assign(printed=printed, mean=table["mean"].astype(float), spread=table["spread"].astype(float))


def table1() -> pd.DataFrame:
    """model, labels, mean, spread, runs, printed: the lowest error over all evaluated epochs.

    The caption calls the spread a standard error, the text a standard deviation; the logs agree with a
    standard deviation of ddof 0.
    """
    return _with_printed(_read("table1"))


def table2() -> pd.DataFrame:
    """printed_norm, norm (corrected), labels, model, mean, spread, printed: FGM at eps 0.3, no clipping."""
    table = _with_printed(_read("table2"))
    return table.assign(norm=table["printed_norm"].map(CORRECTED_NORM))


def runs() -> pd.DataFrame:
    """Released training logs: mean and sd over runs of the final and of the lowest test error.

    Round "first" is behind the printed Table 1; its logs lack VAT, LVAC-LW and LVAN-LW at 1000 labels.
    """
    return _read("runs")


def attacks() -> pd.DataFrame:
    """Released attack logs: clean and attacked error a checkpoint; norms named as in this project.

    VAT at 1000 labels, L2: ten rows, two checkpoints for each of the five seeds.
    """
    table = _read("attacks")
    return table.assign(norm=table["norm"].map(LOGGED_NORM))
