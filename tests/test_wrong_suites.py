"""Suites that are wrong, and what is asked of them that they do not have: one line each."""

import pytest
from running import cells_of, write_suite

from zoo.errors import BadInput


def refusal(name, **chosen):
    """The one line that a suite is refused with."""
    with pytest.raises(BadInput) as error:
        cells_of(name, **chosen)
    message = str(error.value)
    assert "\n" not in message
    return message


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


LVAC_LW = [
    ('["ladder", "vat"]', '["lvac-lw"]'),
    (
        "[hyperparameters.vat]\neps = [1.0]",
        """[hyperparameters.lvac-lw]
denoising_weights = [1]
eps = [1, 1]""",
    ),
]
SPLIT = '[model.lvac-lw]\nperturbed_statistics = "split"\n[training]'
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
    "a key of models that are not there": (
        [('["ladder", "vat"]', '["ladder"]'), ("power_iterations", "sign = 5\npower_iterations")],
        "[model]: sign is of none of ladder: leave it out",
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
    "weights of more layers than there are": (
        [
            (
                "[hyperparameters.vat]",
                "[hyperparameters.ladder]\ndenoising_weights = [4, 3, 2, 1, 1]\n[hyperparameters.vat]",
            )
        ],
        "hyperparameters.denoising_weights",
        "at most 4 values, one a layer, got 5",
    ),
    "eps of more layers than are perturbed": (
        [*LVAC_LW, ("denoising_weights = [1]\neps = [1, 1]", "denoising_weights = [1]\neps = [1, 1, 1, 1]")],
        "hyperparameters.eps",
        "at most 3 values, one a layer, got 4",
    ),
    "iterations of more layers than are perturbed": (
        [*LVAC_LW, ("power_iterations = 1", "power_iterations = [1, 2, 3, 4]")],
        "power_iterations",
        "at most 3 values, one a layer, got 4",
    ),
    "two parts of what has one": (
        [
            *LVAC_LW,
            ("[training]", '[model.lvac-lw]\nperturbed = "labelled"\nperturbed_statistics = "split"\n[training]'),
        ],
        "[model.lvac-lw]",
        'perturbed_statistics = "split" has no meaning where perturbed = "labelled"',
    ),
    "a second part of one example": (
        [*LVAC_LW, ("unlabelled_batch = 200", "unlabelled_batch = 51"), ("[training]", SPLIT)],
        "perturbed_statistics = \"split\" of 'lvac-lw'",
        "unlabelled_batch >= 52, got 51",
    ),
    "small differences of what is rounded": (
        [("[training]", '[model.vat]\nxi = 1e-6\nhidden_sd = 0\n[training]\nprecision = "bfloat16"')],
        "xi of 'vat'",
        'precision = "float32"',
    ),
    "more ascent that is no more": (
        [("eps = [0.1]", "eps = [0.1]\naudit = { steps = 40, restarts = 2, more_steps = 40, more_restarts = 2 }")],
        "more than 40 steps x 2 restarts, got 40 x 2",
    ),
    "more ascent of fewer restarts": (
        [("eps = [0.1]", "eps = [0.1]\naudit = { steps = 40, restarts = 2, more_steps = 80, more_restarts = 1 }")],
        "more than 40 steps x 2 restarts, got 80 x 1",
    ),
    "a radius beyond Foolbox's bounds": (
        [("eps = [0.1]", "eps = [0.1]\naudit.eps = { Linf = [10000] }")],
        "audit.eps.Linf",
        "9999",
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
