"""python -m benchmark attack: trained checkpoints again, from what is typed to the report."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from running import BUDGET, fails, files, records, stages, write_suite

import benchmark.transfer
import benchmark.virtual
import zoo
from attacks import Budget, fgm, minimum_norm, pgd
from benchmark import attacking
from benchmark.attacking import audited, settings
from benchmark.suite import AttackConfig
from benchmark.transfer import transfer_rows

pytestmark = pytest.mark.usefixtures("plain_pictures")


@pytest.fixture
def audited_run(copy, call):
    """A complete run, attacked with a small budget."""
    path = copy.parent / "tiny.toml"
    path.write_text(path.read_text() + BUDGET)
    assert call("attack", "--suite", "tiny.toml", "--out", "run")[0] == 0
    return copy


# ---------------------------------------------------------------------------------------- trained checkpoints


def test_a_checkpoint_that_cannot_be_audited_is_named(copy, call, monkeypatch):
    def refuse(*_):
        raise ValueError("expected finite logits")

    monkeypatch.setattr(attacking, "audit", refuse)
    outcome = call("attack", "--suite", "tiny.toml", "--out", "run", "--models", "vat")
    fails(outcome, "run/cells/vat-50, seed 0: the model cannot be audited: expected finite logits")


def test_an_attack_adds_what_is_missing_and_trains_nothing(audited_run, finished, call):
    for name in ("ladder-50", "vat-50"):
        own, before = audited_run / "cells" / name, finished / "run/cells" / name
        assert stages(own)[-3:] == [("audit", [0]), ("audit", [1]), ("transfer", [0, 1])]
        for file in ("history.csv", "config.json", "seed-0.safetensors", "seed-1.safetensors"):
            assert (own / file).read_bytes() == (before / file).read_bytes()
        old, new = (set((folder / "records.csv").read_text().splitlines()) for folder in (before, own))
        assert old < new
        other = "vat" if name.startswith("ladder") else "ladder"
        found = records(own)
        assert set(found.loc[found["attack"].str.startswith("transfer/"), "attack"]) == {f"transfer/{other}"}
        assert (found.loc[found["attack"].str.startswith("worst"), "n"] == 30).all()
    page = (audited_run / "report/report.md").read_text()
    for heading in ("## Audit", "## What remains of robustness", "## Transfer between the models"):
        assert heading in page
    again = files(audited_run / "cells")
    code, out, _ = call("attack", "--suite", "tiny.toml", "--out", "run")
    assert code == 0
    assert not any("seed" in line for line in out)
    assert files(audited_run / "cells") == again


def test_recorded_errors_are_those_of_the_loaded_checkpoints(audited_run):
    """From the checkpoints with the attacks themselves, beside the harness."""
    data = zoo.load_dataset("digits")
    x, y = data.test_images[:30], data.test_labels[:30]
    found = records(audited_run / "cells/vat-50").query("seed == 1 and measure == 'attacked_error'")
    errors = found.set_index(["attack", "norm", "eps"])["value"]
    target, source = (zoo.load(audited_run, name, labels=50, seed=1) for name in ("vat", "ladder"))
    wrong = (target(x).argmax(1) != y).numpy()
    moved = fgm(source, x, eps=0.1, norm=np.inf, y=y, loss="margin")
    transferred = ((target(moved).argmax(1) != y).numpy() | wrong).mean()
    assert errors["transfer/ladder", "Linf", 0.1] == pytest.approx(transferred)
    near, _ = minimum_norm(target, x, y, norm=2, steps=10)
    moved = pgd(target, x, y, eps=0.5, norm=2, steps=8, restarts=2, near=near)
    assert errors["pgd-8x2", "L2", 0.5] == pytest.approx(((target(moved).argmax(1) != y).numpy() | wrong).mean())


def test_other_budgets_replace_an_audit_and_leave_the_rest(audited_run, call):
    before = records(audited_run / "cells/vat-50")
    assert call("attack", "--suite", "tiny.toml", "--out", "run", "--images", "20", "--models", "vat")[0] == 0
    after = records(audited_run / "cells/vat-50")
    transfers = [frame["attack"].str.startswith("transfer/") for frame in (before, after)]
    assert transfers[0].sum() == transfers[1].sum() > 0, "remade with the new images"
    of_audit = [~frame["attack"].isin(["", "fgm"]) for frame in (before, after)]
    kept = [frame[~audit].reset_index(drop=True) for frame, audit in zip((before, after), of_audit, strict=True)]
    pd.testing.assert_frame_equal(*kept)
    assert set(after.loc[of_audit[1] & ~after["attack"].str.startswith("hsj"), "n"]) == {20}


@pytest.mark.parametrize(("key", "value"), [("decision_steps", 2), ("noise_draws", 2), ("more_steps", 5)])
def test_any_change_of_the_budget_makes_another_audit(audited_run, call, key, value):
    path = audited_run.parent / "tiny.toml"
    path.write_text(re.sub(rf"(?m)^({key} = )(\d+)$", rf"\g<1>{value}", path.read_text()))
    before = stages(audited_run / "cells/vat-50")
    assert call("attack", "--suite", "tiny.toml", "--out", "run", "--models", "vat", "--seeds", "0")[0] == 0
    assert stages(audited_run / "cells/vat-50") == [*before, ("audit", [0]), ("transfer", [0])]
    last = json.loads((audited_run / "cells/vat-50/provenance.json").read_text())["stages"][-2]
    assert last["budget"][key] == value


def test_an_audit_cut_off_before_its_records_is_made_again(audited_run, call, monkeypatch):
    path = audited_run.parent / "tiny.toml"
    path.write_text(path.read_text().replace("noise_draws = 1", "noise_draws = 2"))
    typed = ("attack", "--suite", "tiny.toml", "--out", "run", "--models", "vat")
    with monkeypatch.context() as patch:
        patch.setattr(attacking, "store", lambda *given: sys.exit(9))
        assert call(*typed)[0] == 9
    assert call(*typed)[0] == 0
    assert (records(audited_run / "cells/vat-50")["attack"] == "noise-uniform-2").any()


def test_what_transferred_from_a_checkpoint_goes_with_it(audited_run, call):
    """The ladder is trained anew: what it did to VAT is measured anew, and nothing else is."""
    own = audited_run / "cells/ladder-50"
    before = records(audited_run / "cells/vat-50")
    (own / "seed-1.safetensors").unlink()
    assert call("run", "--suite", "tiny.toml", "--out", "run")[0] == 0
    assert stages(audited_run / "cells/vat-50")[-1] == ("transfer", [0, 1])
    assert [kind for kind, _ in stages(audited_run / "cells/vat-50")].count("audit") == 2
    pd.testing.assert_frame_equal(records(audited_run / "cells/vat-50"), before)  # same seed, same weights
    again = files(audited_run / "cells")
    assert call("run", "--suite", "tiny.toml", "--out", "run")[1][0].endswith("nothing to do")
    assert files(audited_run / "cells") == again


def test_norms_and_eps_that_were_typed_are_measured(copy, call):
    path = copy.parent / "tiny.toml"
    path.write_text(path.read_text() + BUDGET)
    typed = ("--norms", "L1-pixel", "--eps", "0.7,2", "--seeds", "0", "--models", "vat")
    assert call("attack", "--suite", "tiny.toml", "--out", "run", *typed)[0] == 0
    found = records(copy / "cells/vat-50").query("attack == 'fgm' and measure == 'attacked_error' and seed == 0")
    assert {("L1-pixel", 0.7), ("L1-pixel", 2.0)} < set(zip(found["norm"], found["eps"], strict=True))
    assert records(copy / "cells/vat-50").query("attack == 'fgm' and eps == 2 and seed == 1").empty


def test_a_run_makes_the_audit_that_its_suite_asks_for(tmp_path, call):
    suite = write_suite(tmp_path, ('["ladder", "vat"]', '["vat"]'), ("seeds = [0, 1]", "seeds = [0]"))
    path = tmp_path / suite
    path.write_text(path.read_text() + BUDGET)
    typed = ("run", "--suite", suite, "--out", tmp_path / "run")
    assert call(*typed, "--no-audit")[0] == 0
    assert not records(tmp_path / "run/cells/vat-50")["attack"].str.startswith("worst").any()
    assert call(*typed, "--no-audit")[1][0].endswith("nothing to do")
    assert call(*typed)[0] == 0
    have = records(tmp_path / "run/cells/vat-50").query("measure == 'attacked_error'")
    budget = Budget(images=30, steps=4, restarts=1, eps={"L2": (0.5, 5.0), "Linf": (0.1, 1.0)})
    assert set(audited(budget)) < set(zip(have["attack"], have["norm"], have["eps"], strict=True))
    assert call("run", "--suite", suite, "--out", tmp_path / "run")[1][0].endswith("nothing to do")


def test_a_diverged_seed_is_not_audited_and_its_records_say_so(tmp_path, call):
    changes = [('["ladder", "vat"]', '["vat"]'), ("decay_from", "learning_rate = 1e30\ndecay_from")]
    path = tmp_path / write_suite(tmp_path, *changes)
    path.write_text(path.read_text() + BUDGET)
    assert call("run", "--suite", path, "--out", tmp_path / "run")[0] == 0
    found = records(tmp_path / "run/cells/vat-50").query("measure == 'attacked_error'")
    assert found["value"].isna().all()
    assert found["attack"].str.startswith("worst").any()


def test_settings_are_each_named_once():
    attack = AttackConfig(("L2",), (0.3,), ("fgm", "fgm/margin"), {"L2": (0.1, 0.3), "Linf": (0.5,)})
    wanted = [("fgm", "L2", 0.3), ("fgm/margin", "L2", 0.3), ("fgm", "L2", 0.1), ("fgm", "Linf", 0.5)]
    assert settings(attack) == wanted


def test_transfer_counts_what_was_wrong_before():
    torch.manual_seed(0)
    models = [torch.nn.Linear(12, 10).eval() for _ in range(2)]
    x, y = torch.rand(40, 12), torch.arange(40) % 10
    rows = list(transfer_rows(models[0], "other", models[1], x, y, Budget(eps={"L2": (0.2,)})))
    moved = fgm(models[0], x, eps=0.2, norm=2, y=y, loss="margin")
    wanted = (models[1](x).argmax(1) != y) | (models[1](moved).argmax(1) != y)
    assert rows == [("attacked_error", "transfer/other", "L2", 0.2, pytest.approx(wanted.double().mean().item()), 40)]


@pytest.fixture
def of_three(tmp_path, call, monkeypatch):
    """A run of three models that are audited and shown each other's virtual adversarial examples."""
    changes = [
        ('["ladder", "vat"]', '["ladder", "vat", "supervised"]'),
        ("eps = [0.1]\n", "eps = [0.1]\nvirtual = [2]\n"),
    ]
    path = tmp_path / write_suite(tmp_path, *changes)
    path.write_text(path.read_text() + BUDGET)
    monkeypatch.chdir(tmp_path)
    assert call("run", "--suite", "tiny.toml", "--out", "run")[0] == 0
    return tmp_path / "run"


@pytest.mark.slow
def test_a_run_of_some_models_loses_nothing_that_the_others_did(of_three, call):
    before = records(of_three / "cells/vat-50")
    for prefix in ("transfer/", "virtual/"):
        assert set(before.loc[before["attack"] == f"{prefix}ladder", "seed"]) == {0, 1}
    typed = ("run", "--suite", "tiny.toml", "--out", "run", "--models", "vat,supervised", "--seeds", "0,1,2")
    assert call(*typed)[0] == 0
    after = records(of_three / "cells/vat-50")
    assert set(after["seed"]) == {0, 1, 2}
    pd.testing.assert_frame_equal(after[after["seed"] < 2].reset_index(drop=True), before)
    assert call(*typed)[1][0].endswith("nothing to do")


def test_another_audit_keeps_the_virtual_adversarial_examples(of_three, call):
    before = records(of_three / "cells/vat-50").query("measure == 'misidentified'").reset_index(drop=True)
    assert len(before) == 2 * 3
    assert call("attack", "--suite", "tiny.toml", "--out", "run", "--images", "20", "--models", "vat")[0] == 0
    after = records(of_three / "cells/vat-50").query("measure == 'misidentified'").reset_index(drop=True)
    pd.testing.assert_frame_equal(after, before)


def test_wrong_flags_are_one_line(copy, call):
    suite = ("attack", "--suite", "tiny.toml", "--out", "run")
    fails(call("attack"), "expected either --suite NAME or --model package.module:factory")
    fails(call("attack", "--suite", "tiny.toml", "--model", "a:b"), "expected either")
    fails(call("attack", "--model", "a:b", "--seeds", "0"), "--seeds belong to --suite")
    fails(call(*suite, "--norms", "L3"), "unknown norm 'L3'", "did you mean")
    fails(call(*suite, "--eps", "0.1,x"), "expected numbers separated by commas")
    fails(call(*suite, "--eps", "-1"), "--eps", "greater than or equal to 0", "-1")
    fails(call(*suite, "--images", "0"), "--images", "0")
    fails(call("attack", "--suite", "tiny.toml", "--out", "empty"), "empty has no checkpoint of these cells")
    fails(call("attack", "--model", "a:b", "--data", "mnst"), "unknown data set 'mnst'", "mnist")
    (copy / "cells/vat-50/seed-0.safetensors").write_bytes(b"damaged")
    path = copy.parent / "tiny.toml"
    path.write_text(path.read_text() + BUDGET)
    fails(call(*suite, "--models", "vat"), "seed-0.safetensors", "delete it and run again")


@pytest.mark.parametrize(
    ("module", "asked", "stored", "measure"),
    [
        (benchmark.transfer, "untransferred", "store_transfer", benchmark.transfer.transfer),
        (benchmark.virtual, "unshown", "store_shown", benchmark.virtual.show_each_other),
    ],
)
def test_what_another_run_has_measured_meanwhile_is_not_measured_again(
    tmp_path, monkeypatch, module, asked, stored, measure
):
    """It was missing before the cell was locked, and is there once it is."""
    answers, told = iter([True, False]), []
    monkeypatch.setattr(module, asked, lambda *_: next(answers))
    monkeypatch.setattr(module, stored, lambda *_: pytest.fail("measured twice"))
    (tmp_path / "cells/vat-50").mkdir(parents=True)
    measure([SimpleNamespace(name="vat-50")], [], None, tmp_path, lambda cell, state: told.append(state))
    assert (told[-1], next(answers, None)) == ("complete", None)
