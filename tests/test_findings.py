"""Findings: a claim is judged by hand-made records in which the answer is known."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from synthetic import attacked, error, smoothness

from reports import published, render
from reports.claims import PAPER_MODELS, VERDICTS, claims

pytestmark = pytest.mark.usefixtures("plain_pictures")

NOTHING = pd.DataFrame()
NOISE = np.random.default_rng(0).normal(0, 1e-4, (8, 5))


def seeds(model, mean, make=error, **more):
    """Five seeds whose common part dwarfs what tells models apart: only a paired test sees it."""
    noise = NOISE[[*PAPER_MODELS, "supervised"].index(model)]
    return [make(model, s, mean + 0.05 * s + noise[s], dataset="mnist", **more) for s in range(5)]


def found(records, history=(), plan=NOTHING):
    files = render(pd.DataFrame(records), pd.DataFrame(history), plan, {"suite": "known"})
    return pd.read_csv(io.BytesIO(files["findings.csv"])).set_index("claim"), files["findings.md"].decode()


LOWEST = "LVAN-LW has the lowest error at 50 labels (final error)"


@pytest.mark.parametrize(
    ("of_lvan_lw", "of_lvan", "verdict"),
    [(0.01, 0.02, "holds"), (0.02, 0.01, "does not hold"), (0.02, 0.02, "undecided")],
)
def test_the_best_model_of_table_1(of_lvan_lw, of_lvan, verdict):
    means = {"vat": 0.06, "ladder": 0.05, "lvac": 0.04, "lvac-lw": 0.03, "lvan": of_lvan, "lvan-lw": of_lvan_lw}
    table, page = found([row for model, mean in means.items() for row in seeds(model, mean)])
    assert table.loc[LOWEST, "verdict"] == verdict
    assert table.loc[LOWEST, ["sure", "contrary", "open", "absent"]].sum() == 5
    block = page.split(f"claims: {verdict}**")[1].split("**The paper")[0]
    line = next(line for line in block.splitlines() if LOWEST in line)
    assert "vat 16.0" in line, "0.06 and the mean of 0.05 s over five seeds"
    if verdict == "does not hold":
        assert table.loc[LOWEST, "contrary"] == 1
        assert re.search(
            r"lvan-lw minus lvan \+(0\.99|1\.0\d) \(95 % interval \[[01]\.\d\d, 1\.\d\d\], p <0\.001\)", line
        )


def test_a_missing_rival_leaves_a_claim_undecided_and_a_missing_model_untested():
    table, _ = found(seeds("lvan-lw", 0.01) + seeds("ladder", 0.05))
    assert table.loc[LOWEST, ["verdict", "sure", "absent"]].tolist() == ["undecided", 1, 4]
    table, page = found(seeds("vat", 0.01) + seeds("ladder", 0.05))
    assert table.loc[LOWEST, "verdict"] == "not tested"
    assert LOWEST in page.split("claims: not tested**")[1]


def test_one_seed_decides_nothing():
    table, page = found([error(m, 0, 0.01 * i, dataset="mnist") for i, m in enumerate(reversed(PAPER_MODELS))])
    assert table.loc[LOWEST, "verdict"] == "undecided"
    (line,) = (line for line in page.splitlines() if line.startswith(f"- {LOWEST}"))
    assert line.count("lvan-lw minus ") == 5, "every open pair"


def test_of_many_open_pairs_some_are_shown_and_the_rest_counted():
    _, page = found([attacked(m, 0, 0.01 * i, dataset="mnist", labels=100) for i, m in enumerate(PAPER_MODELS)])
    (line,) = (line for line in page.splitlines() if line.startswith("- The order under L2 at 100 labels"))
    assert line.count(" minus ") == 6
    assert line.endswith("; 8 more in pairs.csv.")


def test_robustness_and_its_order():
    printed = published.table2().query("norm == 'L2' and labels == 50 and traceable").set_index("model")["mean"]
    rows = [row for m, mean in printed.items() for row in seeds(m, mean / 100, attacked)]
    rows += [row for i, m in enumerate(PAPER_MODELS) for row in seeds(m, 0.2 + i / 10, attacked, norm="Linf")]
    table, _ = found(rows)
    order = next(claim for claim in table.index if claim.startswith("The order under L2 at 50 labels"))
    assert order.endswith("is lvan-lw 2.4, lvan 2.5, lvac 3, lvac-lw 4, vat 10"), "the untraceable Ladder is left out"
    assert table.loc[order, "verdict"] == "holds"
    assert table.loc["VAT is the most robust under L-infinity at 50 labels", "verdict"] == "holds"
    assert table.loc["VAT is the most robust under L-infinity at 100 labels", "verdict"] == "not tested"


def test_other_attacks_and_other_data_say_nothing():
    rows = [
        row for i, m in enumerate(PAPER_MODELS) for row in seeds(m, i / 10, attacked, norm="Linf", attack="pgd-40x3")
    ]
    rows += [error(m, s, i / 10 + s / 100) for i, m in enumerate(PAPER_MODELS) for s in range(5)]
    table, _ = found(rows)
    assert set(table["verdict"]) == {"not tested"}


def costs(epochs, ended):
    """Records of the trainings that have ended, and the cost after 1 and after this many epochs, by model."""
    means = {"vat": 0.1, "ladder": 0.5, "lvac": 0.4, "lvac-lw": 0.3, "lvan": 0.2, "lvan-lw": 0.3, "supervised": 0.9}
    records, history = [], []
    for model, mean in means.items():
        noise = NOISE[[*PAPER_MODELS, "supervised"].index(model)]
        for s in range(5):
            history += [smoothness(model, s, 1, 1 - mean, dataset="mnist")]
            history += [smoothness(model, s, epochs, mean + 0.05 * s + noise[s], dataset="mnist")]
        records += seeds(model, mean, epoch=epochs) if model in ended else []
    return records, history


def test_figure_3():
    table, page = found(*costs(10, (*PAPER_MODELS, "supervised")))
    verdicts = table[table["source"] == "Figure 3"]["verdict"]
    assert verdicts.tolist() == ["holds", "holds", "holds", "does not hold"]
    assert verdicts.index[3].startswith("LVAC is smoother than LVAC-LW")
    assert page.count("(Figure 3). Here, after epoch 10: ") == 4
    assert "not finished" not in page


@pytest.mark.parametrize(
    ("ended", "verdicts"),
    [
        ((), 4 * ["not yet"]),
        (("ladder", "supervised", "lvac"), ["holds", "not yet", "not yet", "not yet"]),
        (("vat", "lvan", "lvan-lw"), ["not yet", "undecided", "holds", "not yet"]),
    ],
)
def test_a_claim_is_judged_where_trainings_have_ended(ended, verdicts):
    """The costs of the models that still train are there, at the same epoch, and say nothing."""
    records, history = costs(4, ended)
    plan = pd.DataFrame(history)[["dataset", "model", "labels", "seed"]].drop_duplicates()
    table, page = found(records, history, plan)
    assert table[table["source"] == "Figure 3"]["verdict"].tolist() == verdicts
    assert f"**This run is not finished**: in {7 - len(ended)} of its 7 planned cells" in page
    assert table.loc["VAT is the most robust under L-infinity at 100 labels", "verdict"] == "not tested"


def test_every_claim_is_told_apart_and_judged():
    texts = [claim.text for claim in claims()]
    assert len(texts) == len(set(texts))
    assert all(claim.pairs and all(a != b for a, b in claim.pairs) for claim in claims())
    table, page = found(seeds("vat", 0.1))
    assert set(table["verdict"]) <= set(VERDICTS)
    assert all(f"claims: {verdict}**" in page for verdict in VERDICTS)


def test_vanished_gradients_are_told():
    rows = seeds("vat", 0.1) + seeds("vat", 0.2, attacked)
    zero = [attacked("vat", s, 0.01 * s, dataset="mnist", measure="zero_gradient_share") for s in (0, 3, 1)]
    assert "3.00 % (vat, 50 labels, seed 3, L2)" in found(rows + zero)[1]
    assert "Vanished gradients: none" in found(rows + zero[:1])[1]
    assert "nothing is known of them" in found(seeds("vat", 0.1))[1]


def test_the_papers_own_disagreements_are_told_with_their_figures():
    page = found(seeds("vat", 0.1))[1]
    assert "lvan-lw 2.41 ± 0.30 in the logs, 2.4 ± 0.3 printed as L1 and 1.6 ± 0.2 printed as L2" in page
    assert "1.42 ± 0.12 printed; by the logs lowest 1.42, final 1.58" in page
    assert "0.12 for the cell above; its standard error would be 0.04" in page
    assert "69 % (L2, 50 labels) cannot be traced" in page


@pytest.mark.parametrize(
    ("model", "kind", "printed"), [("vat", "training", "22 ± 5.3"), ("lvac-lw", "labelled", "34 ± 6")]
)
def test_figures_by_the_statistics_of_the_papers_own(model, kind, printed):
    def under(attack, errors):
        more = {"attack": attack, "dataset": "mnist"}
        return [attacked(model, s, value, "Linf", 0.3, **more) for s, value in enumerate(errors)]

    rows = [error(model, s, 0.1, dataset="mnist") for s in (0, 1)] + under("fgm", (0.7, 0.8))
    other = {"training": "labelled", "labelled": "training"}[kind]  # of this the paper's own is not
    _, page = found(rows + under(f"statistics/{other}", (0.4, 0.4)))
    assert "by its own averages" not in page
    _, page = found(rows + under(f"statistics/{kind}", (0.2, 0.22)))
    said = f"{model} 21.00 ± 1.41 (2) at 50 labels (75.00 ± 7.07 (2) by its own averages, {printed} printed)."
    assert f"Errors in % under L-infinity 0.3: {said}" in page
    _, page = found(rows[:2] + under(f"statistics/{kind}", (0.2, 0.22)))  # attacked in no meaning of the paper's
    assert "(not measured by its own averages" in page


def test_the_logs_of_the_attacked_vat_differ_in_its_clean_error():
    """Counted by hand: all fifteen, but for seed 2368 at 1000 labels L1 and L-infinity agree, and L2 is there twice."""
    _, page = found([error("vat", 0, 0.1, dataset="mnist")])
    assert "for at least 14 of 15 checkpoints (6.99, 7.01, 7.01 % with seed 8340 at 50 labels)" in page
    for model, rows in published.attacks().groupby("model"):
        assert (rows["norm"].nunique() > 1) == (model == "vat")


def test_what_float64_finds_beyond_float32():
    def step(attack, seed, value, eps=0.3):
        return attacked("ladder", seed, value, "Linf", eps, attack=attack, dataset="mnist")

    rows = [error("ladder", 0, 0.01, dataset="mnist"), step("fgm", 0, 0.58), step("fgm", 1, 0.6)]
    assert "Rounding" not in found(rows)[1]
    rows += [step("fgm/float64", 0, 0.73), step("fgm/float64", 1, 0.61), step("fgm/float64", 2, 0.99)]
    said = "up to 15.00 points of error more than float32's (ladder, 50 labels, mnist, seed 0, Linf 0.3; the largest"
    assert said in found(rows)[1]
    same = [step(attack, 0, 0.58) for attack in ("fgm", "fgm/float64")]
    assert "Rounding: none. No step of a float64 gradient, of 1, finds more" in found([rows[0], *same])[1]
