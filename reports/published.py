"""Published figures to compare with, all on MNIST and all in % error.

`vat`: Tables 1 and 3 of "Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
Learning". The others:

`table1`, `table2`: Tables 1 and 2 of "Virtual Adversarial Ladder Networks for Semi-Supervised Learning", as
printed. `runs`, `attacks`: what the training and attack logs say that its authors released (repository
sakishinoda/tf-ssl). Where paper and logs disagree the docstring of the loader says so.
"""

from pathlib import Path

import pandas as pd

DATASET = "mnist"
SOURCE = "Virtual Adversarial Ladder Networks (arXiv 1711.07476); logs: its authors' released runs, sakishinoda/tf-ssl"
VAT_SOURCE = "Virtual Adversarial Training (arXiv 1704.03976v2), Tables 1 and 3"
VAT_UPDATES = {60_000: 60_000, 100: 100_000, 1000: 100_000}  # by labels: Appendices A and C
UPDATES_OF_TEXT = 250 * (60_000 // 100)  # section 4: 250 epochs, unlabelled batch 100
# Table 2 exchanges L1 and L2: its abstract and the released logs give as L2 what the table prints as L1.
# The L1 step of 2017 spread eps over all pixels.
CORRECTED_NORM = {"L1": "L2", "L2": "L1-spread", "Linf": "Linf"}
LOGGED_NORM = {"L1": "L1-spread", "L2": "L2", "Linf": "Linf"}


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name(f"published_{name}.csv"), dtype={"mean": str, "spread": str})


def _with_printed(table: pd.DataFrame) -> pd.DataFrame:
    """With what is printed, and how far at most rounding to it moved the mean."""
    printed = table["mean"] + " ± " + table["spread"]
    decimals = table["mean"].str.partition(".")[2].str.len()
    numbers = {"mean": table["mean"].astype(float), "spread": table["spread"].astype(float)}
    return table.assign(printed=printed, rounding=0.5 * 10.0**-decimals, **numbers)


def table1() -> pd.DataFrame:
    """model, labels, mean, spread, sd, runs, printed, rounding: the lowest error over all evaluated epochs.

    The caption calls the spread a standard error, the text a standard deviation; the logs agree with a
    standard deviation of ddof 0. `sd` is that of ddof 1.
    """
    table = _with_printed(_read("table1"))
    return table.assign(sd=table["spread"] * (table["runs"] / (table["runs"] - 1)) ** 0.5)


def table2() -> pd.DataFrame:
    """printed_norm, norm (corrected), labels, model, mean, sd, runs, printed, rounding: FGM at eps 0.3, no clipping.

    The logs agree with standard deviations of ddof 1 over five checkpoints; the paper gives no n. `traceable`:
    all but the Ladder's L2 at 50 labels, whose checkpoints (clean error 5.60 in the logs) are not Table 1's (1.86).
    """
    table = _with_printed(_read("table2")).rename(columns={"spread": "sd"})
    (runs,) = attacks().groupby(["norm", "model", "labels"])["seed"].nunique().unique()
    norm = table["printed_norm"].map(CORRECTED_NORM)
    untraceable = (norm == "L2") & (table["labels"] == 50) & (table["model"] == "ladder")
    return table.assign(norm=norm, runs=runs, traceable=~untraceable)


def vat() -> pd.DataFrame:
    """method, model (a name of this project, "" for what is cited), labels, mean, sd, runs, printed, rounding.

    Spreads are "the standard deviations of the results" (section 4): of 10 runs in Table 1, of 3 in Table 3
    (Appendices A and C). They are taken for ddof 1; the paper does not say.
    """
    table = _with_printed(_read("vat")).rename(columns={"spread": "sd"})
    own = table["method"].where(~table["method"].str.contains("(cited)", regex=False), "")
    runs = table["setting"].map({"supervised": 10, "semi-supervised": 3})
    return table.assign(model=own.replace({"mle": "supervised"}), runs=runs)


def runs() -> pd.DataFrame:
    """Released training logs: mean and sd over runs of the final and of the lowest test error.

    Round "first" is behind the printed Table 1; its logs lack VAT, LVAC-LW and LVAN-LW at 1000 labels.
    """
    return _read("runs")


def updates() -> dict[int, int]:
    """Label count -> how many updates the runs behind Table 1 took: the logs name one number for each."""
    first = runs().query("round == 'first'")
    pairs = first[["labels", "steps"]].drop_duplicates()
    return dict(zip(pairs["labels"].tolist(), pairs["steps"].tolist(), strict=True))


def attacks() -> pd.DataFrame:
    """Released attack logs: clean and attacked error a checkpoint; norms named as in this project.

    VAT at 1000 labels, L2: ten rows, two checkpoints for each of the five seeds.
    """
    table = _read("attacks")
    return table.assign(norm=table["norm"].map(LOGGED_NORM))
