"""A suite's text in any form with `tune`'s choice in it: only what is chosen changes."""

import tomllib

import pytest
from test_tune_faults import SUITE

from benchmark.choice import Choice, with_chosen
from zoo.config import Hyperparameters

EARLIER = "[hyperparameters.vat]\neps = [1.0]\n"
FORMS = {
    "no table": "",
    "a table of the cell": "[hyperparameters.vat-50]\neps = [3.0]\n",
    "a quoted name": '[hyperparameters."vat-50"]\neps = [3.0]\n',
    "a spaced name": " [ hyperparameters . 'vat-50' ]\neps = [3.0]\n",
    "inline in the table": "[hyperparameters]\nvat-50 = { eps = [3.0] }\nvat = { eps = [2.0] }  # mine\n",
    "inline and quoted": '[hyperparameters]\n"vat-50" = { eps = [3.0] }\n',
    "dotted in the table": "[hyperparameters]\nvat-50.eps = [3.0]\nvat.eps = [2.0]\nvat-50.alpha = 2\n",
    "indented": "  [hyperparameters.vat-50]\n  eps = [3.0]\n  ",
    "several lines": "[hyperparameters.vat-50]\neps = [\n  3.0,  # ]\n]\n",
    "an earlier choice": "[hyperparameters.vat-50]\n# eps 3, alpha 1, K 1: validation error 1 %\neps = [3.0]\n\n",
}
FIRST = {
    "inline above all tables": "hyperparameters = { vat-50 = { eps = [3.0] }, vat = { eps = [2.0], alpha = 2.0 } }\n",
    "inline above all tables, of another": "hyperparameters = { vat = { eps = [2.0] } }\n",
    "dotted above all tables": "hyperparameters.vat-50.eps = [3.0]\nhyperparameters.vat.eps = [2.0]\n",
}
OF_ITS_OWN = 'description = """\n[hyperparameters.vat-50]\neps = [4.0]\n"""  # kept\n'
TEXTS = {name: SUITE.replace(EARLIER, form) for name, form in FORMS.items()}
TEXTS |= {name: form + SUITE.replace(EARLIER, "") for name, form in FIRST.items()}
TEXTS["a text that looks like a table"] = OF_ITS_OWN + SUITE.split("\n", 1)[1]
TEXTS["lines of another system"] = SUITE.replace("\n", "\r\n")


@pytest.mark.parametrize("form", TEXTS)
def test_only_what_is_chosen_changes_in_a_suite_of_any_form(form):
    text = TEXTS[form]
    want = tomllib.loads(text)
    reason = "eps 0.5: the best"
    for eps in (0.5, 0.25):  # chosen anew, in its own text too
        text = with_chosen(text, {"vat-50": Choice(Hyperparameters(eps=(eps,)), reason)})
        want.setdefault("hyperparameters", {})["vat-50"] = {"eps": [eps], "alpha": 1.0}
        assert tomllib.loads(text) == want
    assert text.count(reason) == 1
    for comment in ("# mine", "# kept"):
        assert (comment in text) == (comment in TEXTS[form])
    assert "3.0" not in text
    assert "validation error 1 %" not in text


def test_comments_stay_with_what_they_stand_before():
    head, tail = "# Mine.\n", "\n# How it is trained.\n  [training]"
    old = "# By hand.\n[hyperparameters.vat-50]\n# Also.\neps = [3.0]  # so\n"
    text = head + SUITE.replace(EARLIER, "").replace("[training]", old + tail)
    found = with_chosen(text, {"vat-50": Choice(Hyperparameters(eps=(0.5,)), "best")})
    assert found.startswith(text[: text.index(old)] + tail)
    assert not [word for word in ("By hand", "Also", "# so") if word in found]
    assert found.endswith("\n[hyperparameters.vat-50]  # best\neps = [0.5]\nalpha = 1.0\n")
