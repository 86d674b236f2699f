"""Suites: a plan of cells from a TOML file, what a fingerprint is of, and what may be restricted."""

import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
from running import cells_of, write_suite

from benchmark.plan import plan, unchosen
from benchmark.suite import BUILT_IN, AttackConfig, load_suite
from zoo.config import LATER, Hyperparameters, ModelConfig, TrainingConfig, difference, fingerprint, plain
from zoo.errors import BadInput


def test_a_users_suite_is_resolved(tmp_path):
    ladder, vat = cells_of(write_suite(tmp_path))
    assert (ladder.name, vat.name) == ("ladder-50", "vat-50")
    assert ladder.model.widths == (64, 20, 15, 10)
    assert ladder.model.denoising_weights() == [1504, 16.15, 0.0381, 0.0381]
    assert vat.model.eps() == {0: 1.0}
    assert vat.training == TrainingConfig("digits", 50, 50, 200, 2, 1, smoothness_images=100)
    assert vat.seeds == (0, 1)


def test_a_plan_is_restricted_to_what_is_named():
    cells = cells_of("full", models=["lvan", "vat"], labels=[1000, 50], seeds=[7])
    assert [cell.name for cell in cells] == ["vat-50", "lvan-50", "vat-1000", "lvan-1000"]
    assert {cell.seeds for cell in cells} == {(7,)}


def test_seeds_train_in_one_order_whatever_order_they_are_named_in(tmp_path):
    swapped = write_suite(tmp_path, ("seeds = [0, 1]", "seeds = [1, 0]"))
    assert [cell.seeds for cell in plan(load_suite(swapped), swapped)] == [(0, 1)] * 2
    assert [cell.seeds for cell in plan(load_suite(swapped), swapped, seeds=(7, 3, 5))] == [(3, 5, 7)] * 2


def test_an_editors_mark_at_the_beginning_is_no_part_of_a_suite(tmp_path):
    path = Path(write_suite(tmp_path))
    wanted = load_suite(str(path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_suite(str(path)) == wanted


def test_cells_without_hyperparameters_are_refused_or_left_out():
    semi, full = load_suite("vat-semi"), load_suite("full")
    with pytest.raises(BadInput, match="let `tune --suite vat-semi` choose"):
        plan(semi, "vat-semi")
    known = ["supervised-100", "vat-100", "supervised-1000", "vat-1000"]
    assert [cell.name for cell in plan(semi, "", chosen=True)] == known
    assert unchosen(semi) == ["rpt-100", "rpt-1000"]
    assert plan(full, "", chosen=True) == plan(full, "")
    assert unchosen(full) == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_cells_are_picklable(name):
    cells = cells_of(name)
    assert pickle.loads(pickle.dumps(cells)) == cells


MODEL = ModelConfig("lvac", (64, 20, 10), Hyperparameters((1.0, 2.0), (0.5,)))
OTHER_MODEL = {
    "name": "lvan",
    "widths": (64, 21, 10),
    "hyperparameters": Hyperparameters((1.0, 2.0), (0.6,)),
    "corruption_sd": 0.2,
    "hidden_sd": 0.2,
    "power_iterations": 1,
    "norm": "Linf",
    "xi": 1e-6,
    "perturbed": "all",
    "perturbations": 2,
    "sign": "larger",
    "scored_noise": "fresh",
    "leaky_slope": 0.0,
    "statistics": "labelled",
    "decoder": "released",
    "perturbed_statistics": "split",
}
OTHER_LAYER_WISE = {"perturbed_on": "activation"}
OTHER_VAT = {"normalised_logits": False, "noise_on": "activation", "hidden_scale": True}
TRAINING = TrainingConfig("digits", 50, 50, 200, 4, 2)
OTHER_TRAINING = {
    "dataset": "mnist",
    "labels": 100,
    "labelled_batch": 25,
    "unlabelled_batch": 100,
    "epochs": 5,
    "decay_from": 3,
    "learning_rate": 0.001,
    "precision": "bfloat16",
    "evaluate_every": 2,
    "smoothness_every": 2,
    "smoothness_eps": 1.0,
    "smoothness_iterations": 2,
    "smoothness_images": 10,
    "decay": "exponential",
    "epoch_updates": 7,
    "validation": 100,
    "deviation_every": 2,
    "train_images": 10,
}


def test_the_fingerprint_changes_with_every_field():
    assert {*OTHER_MODEL, *OTHER_LAYER_WISE, *OTHER_VAT} == {field.name for field in fields(ModelConfig)}
    assert {*OTHER_TRAINING, "points_at"} == {field.name for field in fields(TrainingConfig)}
    found = [fingerprint(MODEL, TRAINING)]
    found += [fingerprint(replace(MODEL, **{key: value}), TRAINING) for key, value in OTHER_MODEL.items()]
    found += [fingerprint(MODEL, replace(TRAINING, **{key: value})) for key, value in OTHER_TRAINING.items()]
    for tuned in (Hyperparameters((1.0, 2.5), (0.5,)), Hyperparameters((1.0, 2.0), (0.5,), 0.5)):
        found += [fingerprint(replace(MODEL, hyperparameters=tuned), TRAINING)]
    layer_wise = ModelConfig("lvac-lw", (64, 20, 10), Hyperparameters((1.0, 2.0), (0.5, 0.1)))
    found += [fingerprint(replace(layer_wise, **other), TRAINING) for other in ({}, OTHER_LAYER_WISE)]
    vat, points = ModelConfig("vat", (2, 20, 2), Hyperparameters(eps=(0.5,))), replace(TRAINING, dataset="moons")
    found += [fingerprint(replace(vat, **{key: value}), points) for key, value in OTHER_VAT.items()]
    found += [fingerprint(vat, points), fingerprint(replace(vat, statistics="corrupted"), points)]
    found += [fingerprint(vat, replace(points, points_at=(0, 1)))]
    assert len(set(found)) == len(found)


def test_a_field_at_what_was_done_before_it_was_there_is_not_in_the_fingerprint():
    """Folders and published hashes of earlier versions stay what they were."""
    attack = AttackConfig(("L2",), (0.1,))
    defaults = vars(MODEL) | vars(MODEL.hyperparameters) | vars(TRAINING) | vars(attack)
    assert {name: defaults[name] for name in LATER} == LATER
    assert fingerprint(MODEL, TRAINING) == "e40283a747387ad4"
    assert difference(plain(TRAINING), replace(TRAINING, validation=100)) == "validation was 0 and is 100"
    assert difference(plain(replace(TRAINING, validation=100)), TRAINING) == "validation was 100 and is 0"


def test_the_fingerprint_does_not_change_with_seeds_or_attacks(tmp_path):
    one = cells_of(write_suite(tmp_path))
    changes = ("seeds = [0, 1]", "seeds = [5]"), ("eps = [0.1]", "eps = [0.1, 0.2]"), ('"L2", "Linf"', '"L2"')
    other = cells_of(write_suite(tmp_path, *changes))
    assert [fingerprint(c.model, c.training) for c in one] == [fingerprint(c.model, c.training) for c in other]
    assert [cell.seeds for cell in other] == [(5,), (5,)]
    assert other[0].attack.eps == (0.1, 0.2)
