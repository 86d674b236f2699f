"""A model from the zoo in the hands of others: CleverHans and Foolbox take it as it is."""

import math
from pathlib import Path

import pytest
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from running import write_suite
from test_attacks_oracles import foolbox

import attacks
import zoo
from benchmark.command_line import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a tiny suite."""
    folder = tmp_path_factory.mktemp("loaded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["benchmark", "run", "--suite", write_suite(folder), "--out", str(folder / "run")])
        main()
    return folder / "run"


@pytest.mark.parametrize("order", [2, math.inf])
def test_a_loaded_model_is_for_anyones_attack(run, order):
    """As it is in CleverHans' and Foolbox' own hands: both change predictions, and by the same images as ours."""
    model, data = zoo.load(run, "vat", labels=50, seed=0), zoo.load_dataset("digits")
    x, y = data.test_images[:100].view(-1, 1, 8, 8), model(data.test_images[:100]).argmax(1)
    ours = attacks.fgm(model, x, eps=0.3, norm=order)
    cleverhans = fast_gradient_method(model, x, 0.3, order)
    bounds = (x.min().item() - 1, x.max().item() + 1)
    method = foolbox.attacks.L2FastGradientAttack if order == 2 else foolbox.attacks.LinfFastGradientAttack
    wrapped = foolbox.PyTorchModel(model, bounds=bounds, device="cpu")
    _, clipped, _ = method()(wrapped, x, y, epsilons=0.3)
    for theirs in (cleverhans, clipped):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
        assert (model(theirs).argmax(1) != y).any()


@pytest.mark.parametrize("device", ["meta", "cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_named(run, device):
    with pytest.raises(zoo.BadInput, match=f"^device '{device}' is not there, expected cpu or cuda: "):
        zoo.load(run, "vat", labels=50, seed=0, device=device)


def test_a_checkpoint_that_may_not_be_read_is_not_called_broken(run, monkeypatch):
    def forbidden(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)
    wanted = r"seed-0.safetensors cannot be read \(Permission denied\): expected a checkpoint that may be$"
    with pytest.raises(zoo.BadInput, match=wanted):
        zoo.load(run, "vat", labels=50, seed=0)
