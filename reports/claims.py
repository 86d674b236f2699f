"""What the paper claims about its models, each as pairs (better, worse), and what a run's paired tests make of it."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from reports import published
from reports.cells import EARLY_STOPPED
from reports.models import MODELS

FUSIONS = ("lvac", "lvac-lw", "lvan", "lvan-lw")
PAPER_MODELS = ("vat", "ladder", *FUSIONS)
VERDICTS = ("holds", "does not hold", "undecided", "not yet", "not tested")
Pair = tuple[str, str]
Place = tuple[str, str, int]  # dataset, model, labels


@dataclass(frozen=True)
class Claim:
    """`better` is lower than `worse` in every pair, by this measure, norm and label count on MNIST."""

    text: str
    source: str
    measure: str
    norm: str
    labels: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Judged:
    """A claim with its pairs sorted by what this run says, and the rows of the comparison behind it."""

    claim: Claim
    verdict: str
    sure: tuple[Pair, ...]
    contrary: tuple[Pair, ...]
    open: tuple[Pair, ...]
    absent: tuple[Pair, ...]
    rows: pd.DataFrame
    means: pd.DataFrame

    @property
    def sorted_pairs(self) -> tuple[tuple[Pair, ...], ...]:
        """Surely so, surely the other way round, undecided, without records."""
        return self.sure, self.contrary, self.open, self.absent


def judge(claim: Claim, found: pd.DataFrame, means: pd.DataFrame, open_cells: Collection[Place] = ()) -> Judged:
    """Holds: every pair surely so. Does not hold: one is surely the other way round. Not tested: no pair is there.

    Not yet: no pair is there, but is to come. `found` is `paired.compare`'s; sure means p below 0.05 after its Holm
    correction. `means`: model, mean, n, epoch. `open_cells`: dataset, model, labels of trainings that have not ended.
    """
    rows, means = (_of(claim, frame) for frame in (found, means))
    winners = {frozenset(pair): winner for *pair, winner in rows[["a", "b", "winner"]].itertuples(index=False)}
    sorted_out: dict[str, list[Pair]] = {"sure": [], "contrary": [], "open": [], "absent": []}
    for better, worse in claim.pairs:
        winner = winners.get(frozenset((better, worse)))
        kind = {None: "absent", better: "sure", worse: "contrary"}.get(winner, "open")
        sorted_out[kind].append((better, worse))
    groups = {kind: tuple(pairs) for kind, pairs in sorted_out.items()}
    if groups["contrary"]:
        verdict = "does not hold"
    elif len(groups["absent"]) == len(claim.pairs):
        here = {*means["model"]} | {model for model in MODELS if (published.DATASET, model, claim.labels) in open_cells}
        verdict = "not yet" if any(here.issuperset(pair) for pair in claim.pairs) else "not tested"
    else:
        verdict = "holds" if len(groups["sure"]) == len(claim.pairs) else "undecided"
    means = means[means["model"].isin({model for pair in claim.pairs for model in pair})]
    return Judged(claim, verdict, **groups, rows=rows, means=means.sort_values("mean", kind="stable"))


def _of(claim: Claim, frame: pd.DataFrame) -> pd.DataFrame:
    at = (frame["dataset"] == published.DATASET) & (frame["labels"] == claim.labels)
    return frame[at & (frame["measure"] == claim.measure) & (frame["norm"] == claim.norm)]


def claims(paper: str = "VAL") -> list[Claim]:
    """The claims of a paper that a run's records can speak to."""
    return [*_vat()] if paper == "VAT" else [*_clean(), *_attacked(), *_smooth()]


def _clean() -> Iterator[Claim]:
    for measure, name in (("lowest_test_error", "lowest error over epochs"), ("test_error", "final error")):
        for labels in (50, 100):
            text = f"LVAN-LW has the lowest error at {labels} labels ({name})"
            yield Claim(text, "Table 1", measure, "clean", labels, against("lvan-lw", PAPER_MODELS))
            text = f"Every fusion improves on the Ladder at {labels} labels ({name})"
            pairs = tuple((fusion, "ladder") for fusion in FUSIONS)
            yield Claim(text, "section 5", measure, "clean", labels, pairs)
        pairs = tuple((baseline, fusion) for baseline in ("vat", "ladder") for fusion in FUSIONS)
        text = f"VAT and the Ladder outperform every fusion at 1000 labels ({name})"
        yield Claim(text, "section 5", measure, "clean", 1000, pairs)


def _attacked() -> Iterator[Claim]:
    for labels in (50, 100, 1000):
        text = f"VAT is the most robust under L-infinity at {labels} labels"
        yield Claim(text, "section 4, Table 2", "attacked_error", "Linf", labels, against("vat", PAPER_MODELS))
    for labels in (50, 100):
        text = f"LVAN-LW is the most robust under L2 at {labels} labels"
        yield Claim(text, "section 4, abstract", "attacked_error", "L2", labels, against("lvan-lw", PAPER_MODELS))
    rest = ("lvan", "lvan-lw", "vat", "ladder")
    pairs = tuple((better, worse) for better in ("lvac", "lvac-lw") for worse in rest)
    text = "LVAC and LVAC-LW are more robust under L2 than the other models at 1000 labels"
    yield Claim(text, "section 4", "attacked_error", "L2", 1000, pairs)
    printed = published.table2().query("norm == 'L2' and traceable")
    for labels in (50, 100, 1000):
        by_mean = printed[printed["labels"] == labels].sort_values("mean", kind="stable")
        means = dict(zip(by_mean["model"], by_mean["mean"].astype(float), strict=True))
        text = f"The order under L2 at {labels} labels is " + ", ".join(f"{m} {mean:g}" for m, mean in means.items())
        pairs = tuple((a, b) for a, b in combinations(means, 2) if means[a] < means[b])
        yield Claim(text, "Table 2, its norms corrected", "attacked_error", "L2", labels, pairs)


def _smooth() -> Iterator[Claim]:
    for text, pairs in (
        ("The Ladder is smoother than the supervised baseline", (("ladder", "supervised"),)),
        ("VAT is the smoothest of all", against("vat", ("supervised", *PAPER_MODELS))),
        ("LVAN is smoother than LVAN-LW", (("lvan", "lvan-lw"),)),
        ("LVAC is smoother than LVAC-LW", (("lvac", "lvac-lw"),)),
    ):
        yield Claim(f"{text} (cost at eps 5, 50 labels)", "Figure 3", "smoothness", "clean", 50, pairs)


def _vat() -> Iterator[Claim]:
    own = published.vat().query("model != ''").sort_values("mean")
    printed = {labels: dict(zip(of["model"], of["mean"], strict=True)) for labels, of in own.groupby("labels")}
    of_all = printed[60_000]
    order = ", ".join(f"{model} {mean:.2f}" for model, mean in of_all.items())
    others = tuple(model for model in of_all if model != "supervised")
    for text, pairs in (
        ("VAT has the lowest error", against("vat", of_all)),
        ("Every regularised model improves on the baseline", tuple((model, "supervised") for model in others)),
        (f"The order is {order}", tuple(combinations(of_all, 2))),
    ):
        yield Claim(f"{text} (60000 labels)", "Table 1", "test_error", "clean", 60_000, pairs)
    for labels in (100, 1000):
        means = printed[labels]
        text = f"VAT {means['vat']:.2f} improves on RPT {means['rpt']:.2f} at {labels} labels"
        yield Claim(text, "Table 3", "test_error", "clean", labels, (("vat", "rpt"),))
        pairs = (("vat", "rpt"), ("rpt", "supervised"))
        for measure, name in (("test_error", "final error"), (EARLY_STOPPED, "early stopping")):
            text = f"VAT improves on RPT, and RPT on the supervised baseline, at {labels} labels ({name})"
            yield Claim(text, "Table 3; the baseline is not in it", measure, "clean", labels, pairs)
    text = "VAT is smoother than the baseline, and than RPT with nine perturbations an update (60000 labels)"
    pairs = (("vat", "supervised"), ("vat", "rpt-9"))
    yield Claim(text, "Figures 2 and 8", "smoothness", "clean", 60_000, pairs)


def against(model: str, others: Iterable[str]) -> tuple[Pair, ...]:
    """The model is better than each of the others."""
    return tuple((model, other) for other in others if other != model)
