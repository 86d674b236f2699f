"""What holds of the paper, what does not and why, in plain words with the figures: findings.md."""

from collections.abc import Iterator

import pandas as pd

from reports import normalised, published
from reports.cells import CELL, fast_gradient, unended
from reports.claims import VERDICTS, Judged, Pair, claims, judge
from reports.comparison import AGAINST, Row, compare, untraceable_said, updates_said
from reports.layout import Table, interval, number, probability
from reports.section import Block, Run, Section

HOW = (
    "A claim holds where every pair of models it speaks of is surely so in this run (paired t-test on shared seeds, "
    "Holm-corrected over the pairs of the same data, measure, norm and label count, p below 0.05); it does not hold "
    "where one pair is surely the other way round; else it is undecided. n in brackets; an interval is of its "
    "pair alone, not corrected. The tests are in pairs.csv."
)
UNENDED = (
    "**This run is not finished**: in {} of its {} planned cells not every training has ended. What stands here is of "
    "the seeds whose training has ended, and a claim none of whose pairs has ended is judged 'not yet'."
)
UNTRIED = ("not yet", "not tested")
DECIDED = ("reproduced", "differs")
MOST_OPEN = 6  # of an undecided claim's pairs, shown where none is decided
COLUMNS = ["claim", "source", "verdict", "measure", "norm", "labels", "sure", "contrary", "open", "absent"]


def section(run: Run) -> Section:
    """Claims by verdict, the cells by verdict, the corrections of the paper, and what may explain a difference."""
    coming = unended(run.records, run.plan)
    judged = [judge(claim, run.pairs, run.means, coming) for claim in claims(run.paper)]
    cells = compare(run.records, run.plan, run.paper)
    blocks: list[Block] = [updates_said(cells)] if len(cells) else []
    blocks += [UNENDED.format(len(coming), len(run.plan[CELL].drop_duplicates()))] if coming else []
    blocks += [HOW]
    for verdict in VERDICTS:
        of_it = [each for each in judged if each.verdict == verdict]
        said = "; ".join(each.claim.text for each in of_it) if verdict in UNTRIED else ""
        blocks += [f"**The paper's claims: {verdict}** in this run ({len(of_it)} of {len(judged)})"]
        blocks += [(said,)] if said else [tuple(map(_said, of_it))] if of_it else []
    if len(cells):
        blocks += ["**The paper's cells**, by their verdicts in comparison.md", tuple(_counted(cells))]
    blocks += ["**What may explain a difference**", tuple(_reasons(run))]
    if run.paper == "VAL":
        blocks += ["**Where the paper disagrees with its own data**, as applied here", tuple(_corrections())]
    table = _judgements(judged)
    counts = table[["sure", "contrary", "open", "absent"]].astype(str).agg(" / ".join, axis=1)
    shown = table[["verdict", "source", "claim"]].assign(pairs=counts)[["verdict", "pairs", "source", "claim"]]
    about = f"{HOW} Pairs: surely so / surely the other way round / undecided / without records."
    blocks += [Table("findings-claims", "The paper's claims", shown, about, folded=True, wrapped=True)]
    return Section("findings", "Findings", tuple(blocks), table)


def _judgements(judged: list[Judged]) -> pd.DataFrame:
    rows = [
        (c.text, c.source, each.verdict, c.measure, c.norm, c.labels, *map(len, each.sorted_pairs))
        for each, c in ((each, each.claim) for each in judged)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _said(judged: Judged) -> str:
    """A claim with its evidence: the means, then the pairs that decide."""
    scale, decimals, unit = (1.0, 4, "") if judged.claim.measure == "smoothness" else (100.0, 2, " %")
    listed = judged.means[["model", "mean", "n"]].itertuples(index=False, name=None)
    figures = ", ".join(f"{model} {number(scale * mean, decimals)}{unit} ({n})" for model, mean, n in listed)
    pairs = len(judged.claim.pairs)
    tested = [f"{len(judged.sure)} of {pairs} pairs surely so", f"{len(judged.contrary)} surely the other way round"]
    tested += [f"{len(judged.absent)} without records"] if judged.absent else []
    deciding = judged.contrary or judged.sure or judged.open[:MOST_OPEN]
    evidence = "; ".join(_pair(judged.rows, pair, scale, decimals) for pair in deciding)
    evidence += f"; {len(judged.open) - MOST_OPEN} more in pairs.csv" if len(deciding) < len(judged.open) else ""
    epochs = {*judged.means["epoch"]}
    after = f", after epoch {max(epochs)}" if len(epochs) == 1 and max(epochs) else ""
    return (
        f"{judged.claim.text} ({judged.claim.source}). Here{after}: {figures}. "
        f"{', '.join(tested)}{': ' + evidence if evidence else ''}."
    )


def _pair(rows: pd.DataFrame, pair: Pair, scale: float, decimals: int) -> str:
    """One pair's difference as the claim puts it, better minus worse."""
    better, worse = pair
    row = rows[rows["a"].isin(pair) & rows["b"].isin(pair)].iloc[0]
    sign = scale if row["a"] == better else -scale
    low, high = sorted((sign * row["low"], sign * row["high"]))
    p = probability(row["p_holm"]).replace("< ", "<")
    difference = number(sign * row["difference"], decimals, "+")
    test = f"95 % interval {interval(low, high, 1.0, decimals)}, p {p}" if pd.notna(row["p"]) else "no test"
    return f"{better} minus {worse} {difference} ({test})"


def _counted(cells: pd.DataFrame) -> Iterator[str]:
    """For each comparison how many cells got which verdict; those that are decided by name."""
    for against, group in cells.groupby("against", sort=False):
        parts = []
        for verdict, rows in group.groupby("verdict"):
            named = f" ({'; '.join(map(_cell, rows.to_dict('records')))})" if verdict in DECIDED else ""
            parts.append(f"{verdict} {len(rows)}{named}")
        yield f"{AGAINST[str(against)]}: {', '.join(parts)}."


def _cell(row: Row) -> str:
    """ "vat, 50 labels, Linf +37.80 points"."""
    under = f", {row['norm']}" if row["norm"] != "clean" else ""
    lost = f", {row['diverged']} seed{'s' * (row['diverged'] > 1)} diverged" if row["diverged"] else ""
    return f"{row['model']}, {row['labels']} labels{under} {number(100 * row['difference'], 2, '+')} points{lost}"


def _reasons(run: Run) -> Iterator[str]:
    training = run.provenance.get("training")
    if isinstance(training, dict):
        said = "; ".join(f"{name} {_listed(value)}" for name, value in training.items())
        theirs = " The paper: 250 epochs, decay from epoch 200." if run.paper == "VAL" else ""
        yield f"Training of this run: {said}.{theirs}"
    yield _vanished(fast_gradient(run.records))
    yield from _rounded(run.records)
    if run.paper == "VAT":
        yield "eps: the paper prints only VAT's of Table 1 (2.0, Figure 2); where the others come from the suite says."
        return
    yield (
        "The norm that bounds the perturbation in training: the paper's text says L-infinity, its equations 4 and 7 "
        "and the released runs L2; batch sizes: its text says 100 unlabelled images, the released runs took 150 or "
        "250; the ladders' decoder: its text follows Rasmus et al., the released code (tf-ssl, lva.py at 02b1283) "
        "denoises the activations of hidden layers, divides by the variance and starts from the logits; VAT's "
        "network: the released code has another for it than for the ladders, with noise behind the activation and a "
        "scale at every layer. Which of them this run took stands in the provenance, cell by cell."
    )
    yield from normalised.said(run.records)


def _vanished(attacked: pd.DataFrame) -> str:
    """Whether gradients of exactly zero, which fgm leaves alone, can pass for robustness."""
    zero = attacked[attacked["measure"] == "zero_gradient_share"].dropna(subset="value")
    if not len(zero):
        return "Vanished gradients: no attack was recorded, so nothing is known of them."
    worst = zero.sort_values("value", ascending=False, kind="stable").iloc[0]
    if not worst["value"]:
        return (
            "Vanished gradients: none. No image of any attacked model has a gradient of exactly zero "
            f"({len(zero)} attacks of fgm looked at), so none looks robust for that reason."
        )
    return (
        "Vanished gradients: the largest share of images whose gradient is exactly zero, which fgm leaves alone, is "
        f"{number(100 * worst['value'], 2)} % ({worst['model']}, {worst['labels']} labels, seed {worst['seed']}, "
        f"{worst['norm']}). At most that share of any model's images looks robust for this reason."
    )


def _rounded(records: pd.DataFrame) -> Iterator[str]:
    """What rounding of the gradient can pass for, without being zero: float64 beside float32, where both were taken."""
    place = [*CELL, "seed", "norm", "eps"]
    errors = records[records["measure"] == "attacked_error"].dropna(subset="value")
    single, double = (errors[errors["attack"] == attack][[*place, "value"]] for attack in ("fgm", "fgm/float64"))
    pairs = single.merge(double, on=place, suffixes=("", "_float64"))
    if len(pairs):
        pairs = pairs.assign(more=pairs["value_float64"] - pairs["value"])
        worst = pairs.sort_values("more", ascending=False, kind="stable").iloc[0]
        if worst["more"] <= 0:
            yield f"Rounding: none. No step of a float64 gradient, of {len(pairs)}, finds more errors than float32's."
            return
        yield (
            f"Rounding: the step that a float64 gradient gives finds up to {number(100 * worst['more'], 2)} points of "
            f"error more than float32's ({worst['model']}, {worst['labels']} labels, {worst['dataset']}, seed "
            f"{worst['seed']}, {worst['norm']} {worst['eps']:g}; the largest of {len(pairs)}). So much robustness is "
            "no more than lost digits."
        )


def _corrections() -> Iterator[str]:
    logs = published.attacks().query("labels == 50 and norm == 'L2'").groupby("model")["attacked_error"]
    printed = published.table2().query("labels == 50").set_index(["printed_norm", "model"])["printed"]
    parts = [
        f"{model} {number(logs.mean()[model], 2)} ± {number(logs.std()[model], 2)} in the logs, {printed['L1', model]} "
        f"printed as L1 and {printed['L2', model]} printed as L2"
        for model in ("lvan-lw", "ladder", "vat")
    ]
    yield f"Table 2's rows L1 and L2 are exchanged. L2 at 50 labels: {'; '.join(parts)}."
    key = "model == 'lvan-lw' and labels == 50"
    logged = published.runs().query(f"round == 'first' and {key}").iloc[0]
    lowest, final, n = (float(logged[name]) for name in ("lowest_mean", "final_mean", "runs"))
    yield (
        "Table 1 prints the lowest error over evaluated epochs, not the final one: lvan-lw at 50 labels "
        f"{published.table1().query(key)['printed'].item()} printed; by the logs lowest {lowest:.2f}, final "
        f"{final:.2f}."
    )
    ddof_1 = float(logged["lowest_sd"])
    ddof_0, error = ddof_1 * ((n - 1) / n) ** 0.5, ddof_1 / n**0.5
    yield (
        "The spread called a standard error is the standard deviation over runs, in Table 1 with ddof 0: by the logs "
        f"{number(ddof_0, 2)} for the cell above; its standard error would be {number(error, 2)}."
    )
    yield untraceable_said().removeprefix("† ")
    yield _attacked_in_training()


def _attacked_in_training() -> str:
    """Why the paper's VAT cannot have been attacked by fixed statistics."""
    vat = published.attacks().query("model == 'vat'").sort_values("labels", kind="stable")
    vat = vat.drop_duplicates(["norm", "labels", "seed"], keep=False)  # of checkpoints unknown: two sets of L2
    logs = vat.groupby(["labels", "seed"])["clean_error"]
    differing, (labels, seed) = (logs.nunique() > 1).sum(), vat[["labels", "seed"]].iloc[0]
    errors = ", ".join(f"{error:.2f}" for error in logs.get_group((labels, seed)))
    return (
        f"VAT was attacked as it is in training: the clean errors of one checkpoint differ from log to log, for "
        f"at least {differing} of {logs.ngroups} checkpoints ({errors} % with seed {seed} at {labels} labels), so its "
        "answers had noise in them. In the released code (tf-ssl, lva.py at 02b1283) the graph of VAT that is attacked "
        "is training's: noise of sd 0.5 on hidden layers, statistics of the batch of test images. The other models' "
        "has neither."
    )


def _listed(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
