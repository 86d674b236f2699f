"""Models on shared seeds against scipy's paired t-test."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import attacked, error, smoothness

from reports.cells import HISTORY, RECORDS, checked
from reports.paired import best, compare

RNG = np.random.default_rng(0)
COLUMNS = {m: RNG.normal(mean, 0.01, 6) for m, mean in {"vat": 0.2, "ladder": 0.05, "lvan": 0.05}.items()}


def compared(records=(), history=()):
    return compare(checked(pd.DataFrame(records), RECORDS, ""), checked(pd.DataFrame(history), HISTORY, ""))


def rows(columns=COLUMNS, **more):
    return [error(m, seed, value, **more) for m, values in columns.items() for seed, value in enumerate(values)]


def test_every_pair_is_scipys_paired_test():
    found = compared(rows()).set_index(["a", "b"])
    assert list(found.index) == [("vat", "ladder"), ("vat", "lvan"), ("ladder", "lvan")]
    raw = []
    for (a, b), row in found.iterrows():
        theirs = stats.ttest_rel(COLUMNS[a], COLUMNS[b])
        low, high = theirs.confidence_interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-6)
        assert row["p"] == pytest.approx(theirs.pvalue, rel=1e-6)
        assert row["difference"] == pytest.approx((COLUMNS[a] - COLUMNS[b]).mean(), abs=1e-10)
        assert row["n"] == 6
        raw.append(theirs.pvalue)
    by_hand = dict(zip(found.index, raw, strict=True))
    first, second, third = sorted(by_hand, key=by_hand.get)
    assert found.loc[first, "p_holm"] == pytest.approx(3 * by_hand[first], rel=1e-6)
    assert found.loc[second, "p_holm"] == pytest.approx(2 * by_hand[second], rel=1e-6)
    assert found.loc[third, "p_holm"] == pytest.approx(by_hand[third], rel=1e-6)
    assert found["winner"].to_dict() == {("vat", "ladder"): "ladder", ("vat", "lvan"): "lvan", ("ladder", "lvan"): ""}


def test_only_seeds_that_both_finished_and_that_share_a_subset_are_pairs():
    values = [error("vat", s, v) for s, v in enumerate([0.1, math.nan, 0.3, 0.5, 0.7])]
    others = [error("lvan", s, v) for s, v in enumerate([0.2, 0.2, 0.1, 0.9])]
    others += [error("lvan", 4, 0.1, subset="another")]
    row = compared(values + others).iloc[0]
    assert row["n"] == 3
    assert row["difference"] == pytest.approx(np.mean([-0.1, 0.2, -0.4]))
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((0.3, 0.4))


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_seed_or_equal_differences_are_no_test(seeds):
    """All differences are 0.1, in floats 0.09999999999999998 or 0.1: that is no spread to be sure by."""
    of_vat, of_lvan = [0.3, 0.2, 0.5][:seeds], [0.2, 0.1, 0.4][:seeds]
    assert seeds == 1 or len(set(np.subtract(of_vat, of_lvan))) > 1
    found = compared(rows({"vat": of_vat, "lvan": of_lvan})).iloc[0]
    assert found["difference"] == pytest.approx(0.1)
    assert math.isnan(found["p"])
    assert math.isnan(found["low"])
    assert found["winner"] == ""


def test_sure_is_what_is_sure_after_the_correction():
    """Three pairs: lvan against either of the others has p between 0.025 and 0.05, and is not sure."""
    noise = np.array([-1, 1, -0.5, 0.5, 0.0])
    found = compared(rows({"vat": 0.2 + noise / 100, "ladder": 0.2 + noise / 99, "lvan": np.full(5, 0.2 - 0.0105)}))
    with_lvan = found[found["b"] == "lvan"]
    assert with_lvan["p"].between(0.025, 0.05).all()
    assert found["winner"].tolist() == ["", "", ""]


def test_the_best_beats_every_other_surely():
    sure = rows(
        {"vat": COLUMNS["vat"], "ladder": COLUMNS["ladder"], "lvan": COLUMNS["ladder"] - RNG.random(6) / 1e4 - 1e-3}
    )
    assert best(compared(sure))["model"].tolist() == ["lvan"]
    assert best(compared(rows()))["model"].tolist() == [], "ladder and lvan are not told apart"
    assert len(best(compared())) == 0


def test_columns_are_apart_and_attacks_are_fgm_at_the_papers_eps():
    some = [
        attacked(m, s, s + len(m) * s / 100, eps=eps) for m in ("vat", "lvan") for s in (1, 2) for eps in (0.1, 0.3)
    ]
    some += [attacked(m, s, 9.0 + s, attack="fgm/margin") for m in ("vat", "lvan") for s in (1, 2)]
    some += [
        attacked(m, s, 1.0 / s, norm="Linf", eps=eps) for m in ("vat", "lvan") for s in (1, 2) for eps in (0.1, 0.2)
    ]
    costs = [smoothness(m, s, epoch, epoch + s) for m in ("vat", "lvan") for s in (1, 2) for epoch in (1, 5)]
    costs += [smoothness("ladder", s, 9, 0.5) for s in (1, 2)]  # trains on: its cost is compared with none
    ended = [error(m, s, 0.1 * s) for m in ("vat", "lvan") for s in (1, 2)]
    found = compared(some + ended, costs)
    assert found[["measure", "norm", "eps"]].to_numpy().tolist() == [
        ["attacked_error", "L2", 0.3],
        ["attacked_error", "Linf", 0.2],
        ["smoothness", "clean", 0.0],
        ["test_error", "clean", 0.0],
    ]
    assert found["mean_a"].tolist() == pytest.approx([1.545, 0.75, 6.5, 0.15])
