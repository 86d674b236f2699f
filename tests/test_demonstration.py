"""Figure 1 of the VAT paper: the points, what is recorded of them, that VAT parts the classes, and the picture."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_trainings import begin, config_of

from benchmark.plan import plan
from benchmark.suite import load_suite
from reports import render
from reports.cells import HISTORY, checked
from reports.demonstration import figure, table
from zoo.config import TrainingConfig
from zoo.data import load_dataset
from zoo.training import train

MOONS = load_dataset("moons")
SMALL = TrainingConfig("moons", 8, 8, 100, 2, 1, epoch_updates=2, smoothness_eps=0.05, points_at=(0, 2))


def cells():
    """The suite's cells by model."""
    return {cell.model.name: cell for cell in plan(load_suite("vat-demo"), "vat-demo")}


def test_the_points_are_half_circles_with_noise():
    for points, labels in ((MOONS.images, MOONS.labels), (MOONS.test_images, MOONS.test_labels)):
        assert labels.bincount().tolist() == [500, 500]
        assert points.min() > 0
        assert points.max() < 1
        x, y = (4 * points.double() - torch.tensor([1.5, 1.75])).T
        lower = labels == 1
        x, y = torch.where(lower, 1 - x, x), torch.where(lower, 0.5 - y, y)
        radius = torch.hypot(x, y)
        assert abs(radius.mean() - 1) < 4 * 0.05 / 1000**0.5 + 0.05**2
        assert abs(radius.std() / 0.05 - 1) < 4 / 2000**0.5
        assert y.min() > -0.25


def test_the_demonstration_separates_the_classes():
    """After ten updates a boundary still runs through the points; at the end none does. Without VAT one stays."""
    found = {}
    for name, cell in cells().items():
        training = train(cell.model, replace(cell.training, evaluate_every=100), cell.seeds, MOONS)
        found[name] = table(frame(training, name)).set_index(["epoch", "point"])
        assert sorted(found[name].index.unique("epoch")) == [0, 1, 10, 100]
    wrong = {name: ((of.loc[100, "p"] > 0.5) != MOONS.labels.bool().numpy()).mean() for name, of in found.items()}
    assert wrong["vat"] <= 0.001
    assert wrong["supervised"] > 0.1
    crossed = {epoch: (found["vat"].loc[epoch, "cost"] > 0.1).sum() for epoch in (10, 100)}
    assert crossed[100] < crossed[10] / 2
    assert (found["supervised"].loc[100, "cost"] > 0.1).sum() > crossed[10] / 2


def frame(training, name):
    """A training's history as a report has it."""
    rows = pd.DataFrame(training.history, columns=["seed", "epoch", "measure", "value"])
    return checked(rows.assign(dataset="moons", model=name, labels=training.config.labels), HISTORY, "")


def test_what_is_recorded_of_a_point_and_of_each_seed_alone():
    """Labels and inputs are the data's; p is the softmax; the mean cost is the smoothness on the same points."""
    small = {"widths": (2, 9, 2), "normalised_logits": False}
    both, alone = (train(config_of("vat", **small), SMALL, seeds, MOONS) for seeds in ([0, 5], [5]))
    rows = frame(both, "vat")
    found, other = (table(each[each["seed"] == 5]) for each in (rows, frame(alone, "vat")))
    pd.testing.assert_frame_equal(found, other, rtol=1e-4, atol=1e-6)
    last = found[found["epoch"] == 2]
    np.testing.assert_allclose(last[["input-0", "input-1"]].to_numpy(), MOONS.images.numpy(), rtol=1e-6)
    chosen = last[last["label"] >= 0]
    assert chosen["point"].tolist() == both.subsets[1].tolist()
    assert chosen["label"].tolist() == MOONS.labels[both.subsets[1]].tolist()
    logits = both.model(MOONS.images)[1].detach().double().numpy()
    np.testing.assert_allclose(last["p"], 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), rtol=1e-5)
    assert last["cost"].mean() == pytest.approx(both.costs(MOONS.images)[1].mean().item(), rel=1e-5)
    assert begin("vat", [0], replace(SMALL, points_at=()), MOONS, widths=(2, 9, 2)).history == []


def test_only_points_in_the_plane_can_be_shown():
    with pytest.raises(ValueError, match="points_at: only points of two inputs can be shown, not those of 'digits'"):
        replace(SMALL, dataset="digits")


def test_the_picture_has_a_panel_a_stage_and_is_there_where_points_were_recorded():
    rows = [
        {"dataset": "moons", "model": "vat", "labels": 8, "seed": 0, "epoch": epoch, "measure": f"point/{i}/{what}"}
        | {"value": value}
        for epoch in (0, 10)
        for i in range(3)
        for what, value in {"p": 0.1 * i, "cost": 1.0 * i}.items()
    ]
    still = {"input-0": 0.5, "input-1": 0.25}
    rows += [
        rows[0] | {"measure": f"point/{i}/{what}", "value": value}
        for i in range(3)
        for what, value in (still | {"label": i - 1.0}).items()
    ]
    history = pd.DataFrame(rows)
    drawn = figure(table(checked(history, HISTORY, ""))).axes
    assert [axis.get_title() for axis in drawn[:4]] == ["vat, epoch 0", "vat, epoch 10"] * 2
    np.testing.assert_allclose(drawn[0].collections[0].get_array(), [0, 0.1, 0.2])
    np.testing.assert_allclose(drawn[3].collections[0].get_array(), [0, 1, 2])
    with_it, without = (
        render(pd.DataFrame(), each, pd.DataFrame(), {}, ["demonstration"]) for each in (history, history[:0])
    )
    assert {"demonstration.png", "demonstration.pdf", "demonstration.csv"} <= with_it.keys()
    assert without.keys() == {"report.md", "report.html"}
