"""Checkpoints: what is saved is what is loaded, nothing is pickled, and unsound files get one line."""

import json
import struct
from dataclasses import asdict
from itertools import chain, product

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_losses import RELEASED

import zoo
from attacks import measure_fgm, measure_fgm_together
from zoo.checkpoints import (
    KINDS,
    Together,
    load_checkpoint,
    read_tensors,
    save_seed,
    save_small,
    write_tensors,
)
from zoo.config import FIXED, LADDERS, LAYER_WISE, MODELS, Hyperparameters, ModelConfig
from zoo.models import create

WIDTHS = (64, 12, 9, 10)
SEEDS = (3, 5)


def config_of(name, **options):
    """A small model by name."""
    hyperparameters = Hyperparameters(
        denoising_weights=(1000.0, 10.0, 0.1) if name in LADDERS else (),
        eps=() if name in ("supervised", "ladder") else (0.5, 0.1) if name in LAYER_WISE else (0.5,),
    )
    return ModelConfig(name, WIDTHS, hyperparameters, **FIXED.get(name, {}), **options)


def build(name="lvan-lw", **options):
    """A model of two seeds, every parameter and running statistic its own random number."""
    model = create(config_of(name, **options), SEEDS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor += noise.abs() if "variance" in name else noise
    return model


def images(count=6):
    """Uniform pixels, (count, 64)."""
    return torch.rand(count, WIDTHS[0], generator=torch.Generator().manual_seed(1))


@pytest.fixture
def run(tmp_path):
    """A run folder with one cell, lvan-lw at 50 labels, and both its seeds."""
    model = build()
    for index, seed in enumerate(SEEDS):
        save_seed(tmp_path / f"cells/lvan-lw-50/seed-{seed}.safetensors", model, index, {"seed": seed})
    return tmp_path


def refusal(call):
    """The one line of the BadInput that `call` ends in."""
    with pytest.raises(zoo.BadInput) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------ round trip


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in MODELS), ("vat", RELEASED)])
def test_each_seed_comes_back_as_it_was(tmp_path, name, options):
    model = build(name, **options)
    wanted = model(images()).detach()
    assert (wanted[0] - wanted[1]).abs().min() > 1e-3
    for index, seed in enumerate(SEEDS):
        path = tmp_path / f"seed-{seed}.safetensors"
        save_seed(path, model, index, {"seed": seed})
        loaded = load_checkpoint(path)
        assert type(loaded) is type(model)
        torch.testing.assert_close(loaded(images()), wanted[index], rtol=1e-5, atol=1e-5)
        for key, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, model.state_dict()[key][index])


def test_a_loaded_model_is_ready_to_be_attacked(run):
    model = zoo.load(run, "lvan-lw", labels=50, seed=3)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model(x)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_shapes_that_a_classifier_takes(run):
    model = zoo.load(str(run), "lvan-lw", labels=50, seed=5)
    flat = model(images())
    assert flat.shape == (6, 10)
    assert torch.equal(model(images().view(6, 1, 8, 8)), flat)
    for shape in [(6, 63), (6, 65), (6, 1, 8, 9), (6, 3, 8, 8)]:
        with pytest.raises(ValueError, match=r"expected \(N, 64\) inputs or images of 64 pixels, got"):
            model(torch.zeros(shape))


def test_an_example_is_classified_alike_in_any_company(run):
    model = zoo.load(run, "lvan-lw", labels=50, seed=3)
    alone = torch.cat([model(image[None]) for image in images()])
    torch.testing.assert_close(model(images()), alone, rtol=1e-5, atol=1e-5)


def test_the_card_says_what_the_model_is(run):
    for seed in SEEDS:
        card = zoo.load(run, "lvan-lw", labels=50, seed=seed).card
        assert card == {"model": json.loads(json.dumps(asdict(config_of("lvan-lw")))), "seed": seed}
    assert card["model"]["widths"] == list(WIDTHS)
    assert card["model"]["hyperparameters"] == {
        "denoising_weights": [1000.0, 10.0, 0.1],
        "eps": [0.5, 0.1],
        "alpha": 1.0,
    }


def test_the_file_is_plain_safetensors(run):
    """Read by hand: a length, a JSON header, raw little-endian numbers. Nothing that could be a pickle."""
    content = (run / "cells/lvan-lw-50/seed-5.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    assert json.loads(header.pop("__metadata__")["card"])["seed"] == 5
    state = build().state_dict()
    assert header.keys() == state.keys()
    assert sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values()) == len(body)
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        numbers = np.frombuffer(body[first:last], {"F32": "<f4", "F64": "<f8"}[entry["dtype"]])
        assert np.array_equal(numbers.reshape(entry["shape"]), state[name][1].numpy())


# --------------------------------------------------------------------------------------------------- refusals


def test_a_folder_that_is_no_run(tmp_path):
    assert str(tmp_path / "none") in refusal(lambda: zoo.load(tmp_path / "none", "lvan-lw", labels=50, seed=3))


@pytest.mark.parametrize(("model", "labels"), [("lvanlw", 50), ("lvan-lw", 500), ("lvan_lw", 50)])
def test_an_unknown_cell_is_told_the_nearest(run, model, labels):
    message = refusal(lambda: zoo.load(run, model, labels=labels, seed=3))
    assert f"'{model}-{labels}': did you mean 'lvan-lw-50'?" in message


def test_a_missing_seed_is_told_which_there_are(run):
    message = refusal(lambda: zoo.load(run, "lvan-lw", labels=50, seed=4))
    assert "seed-4.safetensors is missing" in message
    assert "3, 5" in message


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, -1])
def test_a_truncated_file_is_named(run, keep):
    path = run / "cells/lvan-lw-50/seed-3.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    assert str(path) in refusal(lambda: zoo.load(run, "lvan-lw", labels=50, seed=3))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"card": "no JSON"}, {"card": "[]"}, {"card": "{}"}])
def test_a_file_without_a_card_is_named(tmp_path, metadata):
    path = tmp_path / "seed-0.safetensors"
    save_file({"encoder.scale": torch.ones(1, 10)}, path, metadata=metadata)
    assert str(path) in refusal(lambda: load_checkpoint(path))


def damaged_card(change):
    """The card of a sound model, one entry changed."""
    return {"model": asdict(config_of("lvan-lw")) | change}


@pytest.mark.parametrize(
    ("change", "named"),
    [({"widths": (64, 12, 9, 11)}, "size mismatch"), ({"name": "nonesuch"}, "nonesuch"), ({"colour": 1}, "colour")],
    ids=["other shapes", "unknown model", "unknown key"],
)
def test_a_card_of_another_model_is_refused_with_its_reason(tmp_path, change, named):
    path = tmp_path / "seed-0.safetensors"
    tensors = {name: tensor[0] for name, tensor in build().state_dict().items()}
    write_tensors(path, tensors, damaged_card(change))
    message = refusal(lambda: load_checkpoint(path))
    assert str(path) in message
    assert named in message


def test_missing_and_surplus_tensors_are_refused(tmp_path):
    path = tmp_path / "seed-0.safetensors"
    tensors = {name: tensor[0] for name, tensor in build().state_dict().items()}
    for wrong in ({k: v for k, v in tensors.items() if k != "encoder.scale"}, tensors | {"more": torch.ones(1)}):
        write_tensors(path, wrong, damaged_card({}))
        assert str(path) in refusal(lambda: load_checkpoint(path))


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.safetensors"
    assert refusal(lambda: read_tensors(path)) == f"{path} is missing"


def flipped(path, at=-1):
    """Another last bit of one number, as a disk or a hand may leave it."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("stored", ["whole", "small", "finer"])
def test_an_altered_number_is_refused(run, tmp_path, stored):
    """The shapes are right, and the model answers: nothing but the digest of what was saved can tell."""
    path = run / "cells/lvan-lw-50/seed-3.safetensors"
    if stored != "whole":
        save_small(path, load_checkpoint(path), finer=stored == "finer")
    sound = path.read_bytes()
    load_checkpoint(path)
    flipped(path)
    assert refusal(lambda: load_checkpoint(path)).startswith(f"{path} has other numbers than were saved")
    path.write_bytes(sound)
    assert read_tensors(path)[1] == load_checkpoint(path).card


def test_numbers_under_each_others_names_are_refused(tmp_path):
    path, tensors = tmp_path / "x", {"one": torch.zeros(2), "two": torch.ones(2)}
    write_tensors(path, tensors, {})
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"one"', b'"xxx"').replace(b'"two"', b'"one"').replace(b'"xxx"', b'"two"'))
    assert "other numbers" in refusal(lambda: read_tensors(path))


def test_a_file_from_before_has_no_digest_and_is_read(run, tmp_path):
    path = run / "cells/lvan-lw-50/seed-3.safetensors"
    tensors, card = read_tensors(path)
    save_file(tensors, path, metadata={"card": json.dumps(card)})
    assert load_checkpoint(path).card == card


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_number_has_a_digest(tmp_path, kind):
    for tensors in ({"a": torch.ones(3, 2).to(kind)}, {"a": torch.ones(()).to(kind)}, {"a": torch.ones(0).to(kind)}):
        write_tensors(tmp_path / "x", tensors, {})
        assert torch.equal(read_tensors(tmp_path / "x")[0]["a"].float(), tensors["a"].float())


@pytest.mark.parametrize(("name", "options"), [("ladder", {}), ("vat", RELEASED)])
def test_small_checkpoints_too_can_be_one_model(tmp_path, name, options):
    """A ladder's hold no decoder."""
    model, x = build(name, **options), zoo.load_dataset("digits").test_images
    alone = []
    for index, seed in enumerate(SEEDS):
        save_seed(tmp_path / str(seed), model, index, {})
        save_small(tmp_path / f"{seed}-small", load_checkpoint(tmp_path / str(seed)))
        alone.append(load_checkpoint(tmp_path / f"{seed}-small"))
    both = Together(alone)(torch.cat([x, x])).unflatten(0, (2, -1))
    for logits, one in zip(both, alone, strict=True):
        torch.testing.assert_close(logits, one(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["supervised", "lvan-lw"])
def test_checkpoints_attacked_together_are_each_its_own(tmp_path, name):
    """Every measurement of every model as it is alone; the models differ, so a swap would show."""
    model, data = build(name), zoo.load_dataset("digits")
    alone = []
    for index, seed in enumerate(SEEDS):
        save_seed(tmp_path / str(seed), model, index, {})
        alone.append(load_checkpoint(tmp_path / str(seed)))
    together = Together(alone)
    x, y = data.test_images, data.test_labels
    with torch.no_grad():
        both = together(torch.cat([x, x])).unflatten(0, (2, -1))
        for logits, one in zip(both, alone, strict=True):
            torch.testing.assert_close(logits, one(x), rtol=1e-5, atol=1e-5)
    norms, eps = ["L1-spread", "L2", "Linf"], [0.5, 2.0]
    found = measure_fgm_together(together, 2, x, y, at=list(product(norms, eps)), batch_size=100)
    wanted = [measure_fgm(one, x, y, norms=norms, eps=eps, batch_size=100) for one in alone]
    assert len({result.attacked_error for results in wanted for result in results}) > 6
    for one, two in zip(chain(*found), chain(*wanted), strict=True):
        for key, value in asdict(two).items():
            assert getattr(one, key) == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), key
