"""Figures 2 to 6 of the VAT paper from frames made up by hand, and where their records come from."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from running import VAT_ONLY, fails, files, write_suite
from synthetic import error, smoothness
from torch.nn import functional as F

import zoo
from benchmark.command_line import main
from reports import render
from reports.cells import HISTORY, RECORDS, TUNING, checked
from reports.curves import figure as curves_figure
from reports.curves import table as curves_table
from reports.tuned import figure, figure_of_iterations, means, swept_iterations, swept_sizes
from reports.virtual import figure as virtual_figure
from reports.virtual import picture, pixels
from reports.virtual import table as virtual_table
from zoo.randomness import stream

DIGITS = zoo.load_dataset("digits")
NOTHING = pd.DataFrame()


# --------------------------------------------------------------------------------- Figure 2: training images too


def test_training_curves_stand_beside_those_of_the_test():
    rows = [
        smoothness("vat", seed, epoch, (1 + seed) / 10) | {"measure": measure}
        for seed in (0, 1)
        for epoch in (1, 2)
        for measure in ("test_error", "train_error", "smoothness", "train_smoothness")
    ]
    axes = curves_figure(curves_table(checked(pd.DataFrame(rows), HISTORY, ""))).axes
    names = [
        "test error (%)",
        "training error (%)",
        "virtual adversarial cost, eps 5",
        "cost on training images, eps 5",
    ]
    assert [axis.get_ylabel() for axis in axes] == names
    for axis, height in zip(axes, (15, 15, 0.15, 0.15), strict=True):
        np.testing.assert_allclose(axis.lines[0].get_ydata(), [height, height])


# -------------------------------------------------------------------------------------- Figures 3 and 4: sweeps


def tried(model, eps, value, *, alpha=1.0, k=1, seed=0, updates=400, measure="validation_error"):
    where = {"dataset": "digits", "labels": 50, "n": 300}
    return where | {
        **{"model": model, "eps": eps, "alpha": alpha, "power_iterations": k, "seed": seed},
        **{"updates": updates, "measure": measure, "value": value},
    }


SWEPT = [tried("vat", eps, eps / 10 + seed / 10, seed=seed) for eps in (1.0, 2.0) for seed in (0, 1)]
SWEPT += [tried("vat", 1.0, alpha / 100, alpha=alpha) for alpha in (0.5, 2.0)]
SWEPT += [tried("rpt", eps, 0.3, k=0) for eps in (1.0, 4.0)]
SWEPT += [tried("vat", 1.0, k / 10, k=k) for k in (0, 2)]
SWEPT += [tried("vat", 1.0, 1.0 + k, k=k, measure="smoothness") for k in (0, 1, 2)]
SWEPT += [tried("vat", 1.0, 0.9, updates=10), tried("vat", 2.0, math.nan, seed=2)]
FOUND = means(checked(pd.DataFrame(SWEPT), TUNING, ""))


def test_of_each_model_its_own_longest_trainings_are_shown():
    """RPT was tried for longer than VAT: each has a row of panels, and VAT's are not left out."""
    rows = [tried("vat", eps, eps / 10) for eps in (1.0, 2.0)] + [tried("vat", 1.0, 0.5, alpha=2.0)]
    rows += [tried("rpt", eps, eps / 20, k=0, updates=updates) for eps in (1.0, 4.0) for updates in (400, 900)]
    shown = swept_sizes(means(checked(pd.DataFrame(rows), TUNING, "")))
    of = shown.groupby(["model", "updates"])["eps"].unique().map(list).to_dict()
    assert of == {("vat", 400): [1.0, 2.0], ("rpt", 900): [1.0, 4.0]}
    (vat, alpha), (rpt, empty) = np.reshape(figure(shown).axes, (2, 2))
    assert drawn(vat) == {"vat": [[1.0, 2.0], [10.0, 20.0]]}
    assert drawn(rpt) == {"rpt": [[1.0, 4.0], [5.0, 20.0]]}
    assert drawn(alpha) == {"eps 1": [[1.0, 2.0], [10.0, 50.0]]}
    assert not empty.axison
    assert vat.get_xlim() == rpt.get_xlim() == pytest.approx((1 / 1.25, 4 * 1.25)), "of both models, whoever is last"


def drawn(axis):
    """Label -> x and y of every line with its error bars."""
    return {c.get_label(): [np.asarray(v, float).tolist() for v in c[0].get_data()] for c in axis.containers}


def test_all_that_was_tried_by_hand():
    files = render(NOTHING, NOTHING, NOTHING, {}, tuning=pd.DataFrame(SWEPT))
    page = files["report.md"].decode().split("What was tried")[1]
    rows = [
        [part.strip() for part in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| digits")
    ]
    assert [row[2:] for row in rows][:4] == [
        ["rpt", "400", "0", "1", "1", "300", "30.00 (1)"],
        ["rpt", "400", "0", "1", "4", "300", "30.00 (1)"],
        ["vat", "10", "1", "1", "1", "300", "90.00 (1)"],
        ["vat", "400", "0", "1", "1", "300", "0.00 (1)"],
    ]
    assert ["vat", "400", "1", "1", "2", "300", "25.00 ± 7.07 (2/3)"] in [row[2:] for row in rows]
    assert len(rows) == 9


def test_eps_and_alpha_by_hand():
    table = swept_sizes(FOUND)
    assert set(table["updates"]) == {400}
    left, right = figure(table).axes
    assert drawn(left) == {"rpt": [[1, 4], [30, 30]], "vat": [[1, 2], pytest.approx([15, 25])]}
    assert drawn(right) == {"eps 1": [[0.5, 1, 2], pytest.approx([0.5, 15, 2])]}
    row = table[(table["model"] == "vat") & (table["eps"] == 2)].iloc[0]
    assert row[["lowest", "highest", "n"]].tolist() == pytest.approx([0.2, 0.3, 2])


def test_iterations_by_hand():
    left, right = figure_of_iterations(swept_iterations(FOUND)).axes
    assert drawn(left) == {"eps 1": [[0, 1, 2], [1, 2, 3]]}
    assert drawn(right) == {"eps 1": [[0, 1, 2], pytest.approx([0, 15, 20])]}


def test_sweeps_are_drawn_where_they_were_made():
    names = ["tuning", "iterations"]
    with_it = render(NOTHING, NOTHING, NOTHING, {}, names, tuning=pd.DataFrame(SWEPT))
    assert {f"{name}.{kind}" for name in names for kind in ("png", "pdf", "csv")} <= with_it.keys()
    once = render(NOTHING, NOTHING, NOTHING, {}, names, tuning=pd.DataFrame(SWEPT[:1]))
    assert once.keys() == render(NOTHING, NOTHING, NOTHING, {}, names).keys() == {"report.md", "report.html"}


# ------------------------------------------------------------------- Figures 5 and 6: virtual adversarial examples


def misled(model, source, eps, value, seed=0):
    return error(model, seed, value, measure="misidentified", attack=f"virtual/{source}", norm="L2", eps=eps)


def test_misidentification_by_hand():
    rows = [
        misled(m, s, eps, eps / 10, seed)
        for m in ("vat", "rpt")
        for s in ("vat", "rpt")
        for eps in (1, 2)
        for seed in (0, 1)
    ]
    rows += [misled("vat", "vat", 1, math.nan, 2), error("vat", 0, 0.5)]
    table = virtual_table(checked(pd.DataFrame(rows), RECORDS, ""))
    assert (table["n"] == 2).all()
    axes = virtual_figure(table).axes
    assert [axis.get_title().splitlines()[0] for axis in axes] == ["examples of rpt", "examples of vat"]
    for axis in axes:
        assert [line.get_ydata().tolist() for line in axis.lines] == [[10, 20], [10, 20]]


def test_pixels_are_read_row_by_row():
    assert pixels("00ff1080").tolist() == [[0, 255], [16, 128]]


def test_images_are_shown_by_eps_and_example():
    rows = [
        {"dataset": "digits", "model": m, "labels": 50, "seed": s, "eps": eps, "example": e, "label": 1}
        | {"predicted": e, "pixels": f"{16 * e + s:02x}" * 4}
        for m in ("vat", "rpt")
        for s in (0, 1)
        for eps in (0.0, 2.0)
        for e in (3, 5)
    ]
    files = render(NOTHING, NOTHING, NOTHING, {}, ["examples"], examples=pd.DataFrame(rows))
    assert "examples.png" in files
    kept = pd.read_csv(pd.io.common.BytesIO(files["examples.csv"]), dtype={"pixels": str})
    assert (kept["seed"] == 0).all()
    panels = picture(kept).axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["image", "eps 2"]
    for axis in panels:
        assert [image.get_array()[0, 0] for image in axis.images] == [0x30, 0x50, 0x30, 0x50]
        assert [said.get_text() for said in axis.texts] == ["3", "5", "3", "5"]
    assert "examples.png" not in render(NOTHING, NOTHING, NOTHING, {}, ["examples"])


@pytest.fixture(scope="module")
def run(plain_pictures, tmp_path_factory):
    """A tiny run that measures all of this; not to be changed."""
    folder = tmp_path_factory.mktemp("figures")
    changes = [('["ladder", "vat"]', '["supervised", "vat"]'), ("eps = [0.1]\n", "eps = [0.1]\nvirtual = [0.5, 2]\n")]
    changes += [("virtual = ", "virtual_images = 40\nvirtual_drawn = 2\nvirtual = ")]
    changes += [("smoothness_images = 100", "smoothness_images = 100\ntrain_images = 30")]
    typed = ["benchmark", "run", "--suite", write_suite(folder, *changes), "--out", f"{folder}/run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", typed)
        main()
    return folder / "run"


def test_examples_of_seeds_trained_earlier_stay(tmp_path, call):
    drawn = ("eps = [0.1]\n", "eps = [0.1]\nvirtual = [0.5]\nvirtual_images = 40\nvirtual_drawn = 2\n")
    suite = write_suite(tmp_path, VAT_ONLY, drawn)
    for seed in ("0", "1"):
        assert call("run", "--suite", suite, "--out", tmp_path / "run", "--seeds", seed)[0] == 0
    kept = pd.read_csv(tmp_path / "run/cells/vat-50/examples.csv", dtype={"pixels": str})
    assert kept.groupby("seed").size().to_dict() == {0: 4, 1: 4}


@pytest.mark.slow
def test_examples_of_other_images_are_measured_anew(tmp_path, call):
    def change(images, drawn):
        more = f"eps = [0.1]\nvirtual = [0.5]\nvirtual_images = {images}\nvirtual_drawn = {drawn}\n"
        suite = write_suite(tmp_path, VAT_ONLY, ("eps = [0.1]\n", more))
        code, out, _ = call("run", "--suite", suite, "--out", tmp_path / "run")
        records, kept = (pd.read_csv(tmp_path / "run/cells/vat-50" / name) for name in ("records.csv", "examples.csv"))
        shown = records[records["measure"] == "misidentified"]
        assert code == 0
        did = [stage for stage in ("training", "virtual adversarial examples") if f"vat-50: {stage}" in out]
        return len(did), set(shown["n"]), len(shown), len(kept)

    assert change(40, 2) == (2, {40}, 2, 2 * 2 * 2)
    assert change(40, 2) == (0, {40}, 2, 2 * 2 * 2)
    assert change(30, 2) == (1, {30}, 2, 2 * 2 * 2)
    assert change(30, 3) == (1, {30}, 2, 2 * 2 * 3)
    assert change(30, 0) == (1, {30}, 2, 0)
    assert change(30, 0) == (0, {30}, 2, 0)


def test_damaged_examples_cost_nothing_that_is_recorded(tmp_path, call):
    def run(images):
        more = f"eps = [0.1]\nvirtual = [0.5]\nvirtual_images = {images}\nvirtual_drawn = 2\n"
        return call(
            "run", "--suite", write_suite(tmp_path, VAT_ONLY, ("eps = [0.1]\n", more)), "--out", tmp_path / "run"
        )

    assert run(40)[0] == 0
    before = files(tmp_path / "run/cells", "records.csv", "provenance.json")
    (tmp_path / "run/cells/vat-50/examples.csv").write_text("seed")
    fails(run(30), "run/cells/vat-50/examples.csv is not readable")
    assert files(tmp_path / "run/cells", "records.csv", "provenance.json") == before


def by_autograd(model, x, d, eps):
    """x + r from the gradient of KL(p(x) || p(x + xi d)) in float64 at a small xi: equations 12 to 14."""
    d = d.double() / d.double().norm(dim=-1, keepdim=True)
    r = (1e-5 * d).requires_grad_()
    log_p = model(x.double()).detach().log_softmax(-1)
    F.kl_div(model(x.double() + r).log_softmax(-1), log_p, reduction="sum", log_target=True).backward()
    return x + (eps * r.grad / r.grad.norm(dim=-1, keepdim=True)).float()


def test_records_of_examples_against_automatic_differentiation(run):
    x, y = DIGITS.test_images[:40], DIGITS.test_labels[:40]
    models = {(m, s): zoo.load(run, m, labels=50, seed=s) for m in ("supervised", "vat") for s in (0, 1)}
    moved = {}
    for (maker, seed), model in models.items():
        d = torch.randn(x.shape, generator=stream(seed, "virtual"))
        for eps in (0.5, 2.0):
            moved[maker, seed, eps] = by_autograd(model.double(), x, d, eps)
        model.float()
    for name in ("supervised", "vat"):
        records = pd.read_csv(run / f"cells/{name}-50/records.csv")
        records = records[records["measure"] == "misidentified"]
        assert len(records) == 2 * 2 * 2
        for row in records.itertuples():
            images = moved[row.attack.removeprefix("virtual/"), row.seed, row.eps]
            wrong = sum(
                a != b for a, b in zip(models[name, row.seed](images).argmax(1).tolist(), y.tolist(), strict=True)
            )
            assert (row.value, row.n, row.norm) == (wrong / 40, 40, "L2")
        kept = pd.read_csv(run / f"cells/{name}-50/examples.csv", dtype={"pixels": str})
        assert len(kept) == 2 * 3 * 2
        for row in kept.itertuples():
            image = (x if row.eps == 0 else moved[name, row.seed, row.eps])[row.example]
            wanted = 255 * image.clamp(0, 1).numpy()
            assert np.abs(pixels(row.pixels).ravel() - wanted).max() < 0.51
            assert row.example == y.tolist().index(row.label)
            assert row.predicted == models[name, row.seed](image[None]).argmax().item()
        assert kept["label"].unique().tolist() == [0, 1]


def test_training_images_are_measured_as_the_tests_are(run):
    """The first thirty, as no image is held out; at the last epoch, from the checkpoint."""
    x, y = DIGITS.images[:30], DIGITS.labels[:30].tolist()
    history = pd.read_csv(run / "cells/vat-50/history.csv").query("epoch == 2").set_index(["seed", "measure"])["value"]
    for seed in (0, 1):
        model = zoo.load(run, "vat", labels=50, seed=seed)
        wrong = sum(a != b for a, b in zip(model(x).argmax(1).tolist(), y, strict=True))
        assert history[seed, "train_error"] == pytest.approx(wrong / 30, abs=1e-12)
        assert history[seed, "train_smoothness"] > 0


def test_what_is_measured_is_not_measured_again(run, call):
    said = call("run", "--suite", run.parent / "tiny.toml", "--out", run)[1]
    assert said[0] == f"{run}: all 2 cells are complete, nothing to do"
