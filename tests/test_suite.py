"""Suites: a plan of cells from a TOML file; a wrong file gets one line that says what would be right."""

import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
from running import cells_of, write_suite

from benchmark.plan import plan, unchosen
from benchmark.suite import BUILT_IN, AttackConfig, load_suite
from zoo.config import LATER, Hyperparameters, ModelConfig, TrainingConfig, difference, fingerprint, plain
from zoo.errors import BadInput


def refusal(name, **chosen):
    """The one line that a suite is refused with."""
    with pytest.raises(BadInput) as error:
        cells_of(name, **chosen)
    message = str(error.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------------------------------------- plans


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
}
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
    assert {*OTHER_MODEL, *OTHER_VAT} == {field.name for field in fields(ModelConfig)}
    assert {*OTHER_TRAINING, "points_at"} == {field.name for field in fields(TrainingConfig)}
    found = [fingerprint(MODEL, TRAINING)]
    found += [fingerprint(replace(MODEL, **{key: value}), TRAINING) for key, value in OTHER_MODEL.items()]
    found += [fingerprint(MODEL, replace(TRAINING, **{key: value})) for key, value in OTHER_TRAINING.items()]
    for tuned in (Hyperparameters((1.0, 2.5), (0.5,)), Hyperparameters((1.0, 2.0), (0.5,), 0.5)):
        found += [fingerprint(replace(MODEL, hyperparameters=tuned), TRAINING)]
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


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "hint"),
    [("quik", "did you mean 'quick'?"), ("realeased", "did you mean 'released'?"), ("xyz", "<file>.toml")],
)
def test_an_unknown_suite_is_told_what_there_is(name, hint):
    message = refusal(name)
    assert message.startswith(f"unknown suite {name!r}")
    assert hint in message


def test_a_missing_file_is_named(tmp_path):
    assert str(tmp_path / "none.toml") in refusal(str(tmp_path / "none.toml"))


BAD_SUITES = {
    "unknown key at the top": ([("[labels.50]", "widht = 3\n[labels.50]")], "'widht'", "'widths'"),
    "unknown key in [training]": ([("epochs", "evaluate_evry = 2\nepochs")], "'evaluate_evry'", "'evaluate_every'"),
    "unknown key in [model]": ([("power_iterations", "power_iteration")], "[model]", "'power_iterations'"),
    "unknown key in [model.vat]": (
        [("[training]", "[model.vat]\nnoise_onn = 1\n[training]")],
        "[model] or [model.vat]: unknown key 'noise_onn'",
        "'noise_on'",
    ),
    "a key of [model.vat] from elsewhere": (
        [("[training]", "[model.vat]\nname = 1\n[training]")],
        "[model.vat]",
        "'name'",
    ),
    "a table of no model": ([("[training]", "[model.vta]\nxi = 1\n[training]")], "[model.vta]", "'vat'"),
    "a table of a model that is not there": (
        [("[training]", "[model.lvac]\nxi = 1\n[training]")],
        "[model.lvac]",
        "'lvac'",
    ),
    "a cost of a model without": (
        [("[training]", '[model.ladder]\nsign = "larger"\n[training]')],
        "[model.ladder]",
        """sign = "larger" has no meaning for model 'ladder'""",
    ),
    "iterations of a model whose name says none": (
        [
            ('["ladder", "vat"]', '["rpt"]'),
            ("s.vat]", "s.rpt]"),
            ("[training]", "[model.rpt]\npower_iterations = 5\n[training]"),
        ],
        "[model.rpt]",
        "expected 0, got 5",
    ),
    "a decoder of a model without": (
        [("[training]", '[model.vat]\ndecoder = "released"\n[training]')],
        "[model.vat]",
        """decoder = "released" has no meaning for model 'vat'""",
    ),
    "[model.vat] is none": ([("power_iterations", "vat = 3\npower_iterations")], "model.vat: expected a table, got 3"),
    "a ladder's hidden scale": (
        [("power_iterations", "hidden_scale = true\npower_iterations")],
        "hidden_scale = true has no meaning for model 'ladder'",
    ),
    "unknown key in [labels.50]": ([("seeds", "sedes = [1]\nseeds")], "'labels.50.sedes'", "'seeds'"),
    "unknown key in [attack]": ([("norms", "norm = 2\nnorms")], "'attack.norm'", "'norms'"),
    "unknown hyper-parameter": ([("eps = [1.0]", "esp = [1.0]")], "'hyperparameters.vat.esp'", "'eps'"),
    "misspelt required key at the top": ([("dataset", "data_set")], "'data_set'", "'dataset'"),
    "misspelt required key in [training]": ([("epochs", "epoch")], "'epoch'", "'epochs'"),
    "missing key": ([('dataset = "digits"\n', "")], "dataset", "required"),
    "missing key in [training]": ([("epochs = 2\n", "")], "epochs", "required"),
    "wrong type": ([("epochs = 2", 'epochs = "many"')], "epochs", "integer", "'many'"),
    "broken whole number": ([("epochs = 2", "epochs = 2.5")], "epochs", "integer", "2.5"),
    "seeds no list": ([("seeds = [0, 1]", "seeds = 0")], "labels.50.seeds", "got 0"),
    "a count twice": (
        [("[training]", '[labels."050"]\nseeds = [3]\nlabelled_batch = 50\n[training]')],
        "labels",
        "'050'",
    ),
    "no seeds": ([("seeds = [0, 1]", "seeds = []")], "labels.50.seeds", "at least 1"),
    "labels no number": ([("[labels.50]", "[labels.few]")], "labels", "[labels.50]", "'few'"),
    "unknown model": ([('"ladder"', '"laddr"')], "'laddr'", "'ladder'"),
    "unknown norm": ([('"Linf"', '"Linff"')], "'Linff'", "'Linf'"),
    "unknown data set": ([('"digits"', '"digit"')], "'digit'", "'digits'"),
    "hyper-parameters of an unknown model": ([("hyperparameters.vat", "hyperparameters.vta")], "'vta'", "'vat'"),
    "nothing published": ([("[labels.50]", "[labels.20]"), ("= 50", "= 20")], "20 labels", "[hyperparameters.ladder]"),
    "labelled batch": ([("labelled_batch = 50", "labelled_batch = 60")], "labelled_batch = 60", "labels = 50"),
    "decay": ([("decay_from = 1", "decay_from = 3")], "decay_from = 3", "epochs = 2"),
    "not TOML": ([("epochs = 2", "epochs = ")], "not TOML", "line"),
    "two eps where the input alone is perturbed": ([("eps = [1.0]", "eps = [1.0, 2.0]")], "'vat'", "one value"),
    "eps without meaning": ([("rs.vat]\n", "rs.ladder]\ndenoising_weights = [1]\n")], "'ladder'", "have no meaning"),
    "widths": ([("[20, 15, 10]", "[10]")], "widths", "three or more"),
    "no eps of an audit's norm": (
        [("eps = [0.1]", "eps = [0.1]\naudit.eps = { L2 = [] }")],
        "audit.eps.L2",
        "at least 1",
    ),
    "eps not finite": ([("eps = [0.1]", "eps = [inf]")], "attack.eps", "finite"),
}


@pytest.mark.parametrize("case", BAD_SUITES)
def test_a_wrong_suite_is_told_what_and_where(tmp_path, case):
    changes, *said = BAD_SUITES[case]
    path = write_suite(tmp_path, *changes)
    message = refusal(path)
    assert message.startswith(path)
    for piece in said:
        assert piece in message.removeprefix(path)
    assert len(message.removeprefix(path)) < 160


def test_layer_wise_eps_needs_a_value_a_layer(tmp_path):
    message = refusal(
        write_suite(tmp_path, ('"vat"', '"lvan-lw"'), ("rs.vat]\neps", "rs.lvan-lw]\ndenoising_weights = [1.0]\neps"))
    )
    assert "'lvan-lw'" in message
    assert "two or more layers" in message


IMPOSSIBLE = {
    "seed below zero": ([("seeds = [0, 1]", "seeds = [-1]")], "-1"),
    "seed beyond 32 bits": ([("seeds = [0, 1]", "seeds = [4294967296]")], "4294967296"),
    "a seed twice": ([("seeds = [0, 1]", "seeds = [1, 1]")], "seeds"),
    "a model twice": ([('"vat"]', '"ladder"]')], "ladder"),
    "eps below zero": ([("eps = [0.1]", "eps = [-0.1]")], "-0.1"),
    "[model] renames": ([("power_iterations", 'name = "ladder"\npower_iterations')], "name"),
    "[model] has widths": ([("power_iterations", "widths = [64, 5, 10]\npower_iterations")], "widths"),
    "[training] has labels": ([("epochs = 2", "epochs = 2\nlabels = 100")], "labels"),
    "[training] has a data set": ([("epochs = 2", 'epochs = 2\ndataset = "mnist"')], "dataset"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_be_trained_is_refused_before_anything_is(tmp_path, case):
    changes, said = IMPOSSIBLE[case]
    path = write_suite(tmp_path, *changes)
    message = refusal(path)
    assert message.startswith(path)
    assert said in message.removeprefix(path)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"models": ["lvanlw"]}, "'lvan-lw'"),
        ({"models": ["lvan"]}, "ladder, vat"),
        ({"labels": [1000]}, "50"),
        ({"seeds": [-1]}, "-1"),
        ({"seeds": [3, 3]}, "3"),
    ],
)
def test_what_is_not_in_the_suite_cannot_be_chosen(tmp_path, chosen, said):
    path = write_suite(tmp_path)
    assert said in refusal(path, **chosen).replace(path, "")
