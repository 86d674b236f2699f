"""Every loss term of every model against float64 NumPy written from the papers, noise given."""

import numpy as np
import oracle
import oracle_losses
import oracle_vat
import pytest
import torch

from zoo.classifier import Batch
from zoo.config import ADVERSARIAL, FIXED, LADDERS, MODELS, RPT, Hyperparameters, ModelConfig
from zoo.models import create
from zoo.randomness import draw

WIDTHS = (7, 9, 8, 6, 4)
DENOISING = (1000.0, 10.0, 0.1)
SIZES = {"labelled": 8, "unlabelled": 12}


def build(name, seeds=(3, 5), alpha=1.0, **options):
    """A model with random shifts and combinators, a batch and noise, all in float64 with two seeds."""
    eps = (0.8, 0.5, 0.3) if name.endswith("-lw") else () if name in ("supervised", "ladder") else (0.8,)
    tuned = Hyperparameters(DENOISING if name in LADDERS else (), eps, alpha)
    model = create(ModelConfig(name, WIDTHS, tuned, **options | FIXED.get(name, {})), seeds).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    lead = (len(seeds),)
    x = {g: torch.rand(*lead, n, WIDTHS[0], generator=generator, dtype=torch.float64) for g, n in SIZES.items()}
    y = torch.randint(0, WIDTHS[-1], (*lead, SIZES["labelled"]), generator=generator)
    noise = draw([torch.Generator().manual_seed(s) for s in seeds], model.noise_shapes(SIZES))
    return model, Batch(x["labelled"], y, x["unlabelled"]), {k: v.double() for k, v in noise.items()}


def oracle_parameters(model, i):
    """The oracle's names for one seed's parameters, and the slope of its activation."""
    state = {name: tensor[i].detach().numpy() for name, tensor in model.named_parameters()}
    depth = len(WIDTHS) - 1
    found = {"scale": state["encoder.scale"][0], "leaky_slope": np.float64(model.config.leaky_slope)}
    if model.config.decoder == "released":
        found["released_decoder"] = np.float64(1)
    if model.config.perturbed_on == "activation":
        found["perturbed_activation"] = np.float64(1)
    if model.config.perturbed_statistics == "split":
        found["split"] = np.float64(SIZES["labelled"])
    if model.config.noise_on == "activation":
        found["noise_on_activation"] = np.float64(1)
    for layer in range(1, depth + 1):
        found[f"weight_{layer}"] = state[f"encoder.weight.{layer - 1}"]
        found[f"shift_{layer}"] = state[f"encoder.shift.{layer - 1}"][0]
        if f"encoder.hidden_scale.{layer - 1}" in state:
            found[f"scale_{layer}"] = state[f"encoder.hidden_scale.{layer - 1}"][0]
        if "decoder.weight.0" in state:
            found[f"decoder_weight_{layer}"] = state[f"decoder.weight.{layer - 1}"]
    for layer in range(depth + 1):
        if "decoder.weight.0" in state:
            found[f"combinator_{layer}"] = state[f"decoder.combinator.{layer}"]
    return found


def layers(noise, prefix, i, sd):
    """The oracle's list of scaled noise arrays by layer."""
    names = [f"{prefix}/{layer}" for layer in range(len(WIDTHS))]
    return [sd * noise[name][i].numpy() if name in noise else None for name in names]


def expected(model, batch, noise, i):
    """The oracle's loss terms for one seed."""
    config, parameters = model.config, oracle_parameters(model, i)
    arrays = (batch.labelled[i].numpy(), batch.labels[i].numpy(), batch.unlabelled[i].numpy())
    both = config.perturbed == "all"
    options = {"norm": config.norm, "perturb_labelled": both}
    eps = config.eps()
    if config.name in ("vat", "lvac", "lvac-lw"):
        options["either_sign"] = config.sign == "larger"
        for argument, group in (("scoring_noise", "unlabelled"), ("labelled_scoring_noise", "labelled")):
            if config.scored_noise == "fresh" and config.perturbed in (group, "all"):
                scored = {layer: layers(noise, f"{group}/score/{layer}", i, config.hidden_sd) for layer in eps}
                options[argument] = scored[0] if config.name == "vat" else scored

    def found(group):
        return layers(noise, f"{group}/find/0/hidden", i, config.hidden_sd)

    if config.name in (*ADVERSARIAL, *RPT) or config.leaky_slope == 0:
        return expected_of_the_vat_paper(model, parameters, arrays, noise, i)

    def directions(group):
        return {layer: noise[f"{group}/direction/{layer}"][i].numpy() for layer in eps}

    if config.name in ("supervised", "vat"):
        hidden = [layers(noise, f"{group}/hidden", i, config.hidden_sd) for group in SIZES]
        if config.name == "supervised":
            logits = oracle.encode(parameters, arrays[0], hidden[0]).logits
            return {"cross_entropy": oracle.cross_entropy(logits, arrays[1])}
        labelled = (
            {"labelled_direction": directions("labelled")[0], "labelled_finding_noise": found("labelled")}
            if both
            else {}
        )
        terms = oracle_losses.vat_losses(
            parameters,
            *arrays,
            *hidden,
            eps[0],
            config.power_iterations,
            directions("unlabelled")[0],
            found("unlabelled"),
            **options,
            **labelled,
        )
        return {"cross_entropy": terms["cross_entropy"], "virtual_adversarial_0": terms["virtual_adversarial"]}
    corruption = [layers(noise, f"{group}/corruption", i, config.corruption_sd) for group in SIZES]
    weights = config.denoising_weights()
    if config.name == "ladder":
        return oracle_losses.ladder_losses(parameters, *arrays, *corruption, weights)
    losses = oracle_losses.lvac_losses if config.name.startswith("lvac") else oracle_losses.lvan_losses
    labelled = {}
    if both:
        labelled = {
            "labelled_directions": directions("labelled"),
            "labelled_finding_noise": dict.fromkeys(eps, found("labelled")),
        }
    return losses(
        parameters,
        *arrays,
        *corruption,
        weights,
        eps,
        config.power_iterations,
        directions("unlabelled"),
        dict.fromkeys(eps, found("unlabelled")),
        **options,
        **labelled,
    )


def expected_of_the_vat_paper(model, parameters, arrays, noise, i):
    """The oracle's loss terms for one seed of a model of the VAT paper, with its alpha and any number of draws."""
    config, (x, y, unlabelled) = model.config, arrays
    eps, alpha = config.eps()[0], config.hyperparameters.alpha
    hidden = {group: layers(noise, f"{group}/hidden", i, config.hidden_sd) for group in SIZES}
    if config.name in ADVERSARIAL:
        return oracle_vat.adversarial_losses(parameters, x, y, hidden["labelled"], eps, alpha, config.norm)
    groups = [group for group in SIZES if config.perturbed in (group, "all")]
    find = {group: layers(noise, f"{group}/find/0/hidden", i, config.hidden_sd) for group in groups}
    names = ["", *(f"/{draw}" for draw in range(1, config.perturbations))]
    starts = {group: [noise[f"{group}/direction/0{draw}"][i].numpy() for draw in names] for group in groups}
    options = {"eps": eps, "power_iterations": config.power_iterations, "norm": config.norm}
    if groups == ["labelled"]:
        given = {"directions": starts["labelled"], "finding_noise": find["labelled"], "alpha": alpha}
        return oracle_vat.labelled_vat_losses(parameters, x, y, hidden["labelled"], **options, **given)
    argument = {"unlabelled": "direction", "labelled": "labelled_direction"}
    draws = [{argument[group]: starts[group][draw] for group in groups} for draw in range(config.perturbations)]
    options |= {"perturb_labelled": len(groups) > 1, "labelled_finding_noise": find.get("labelled")}
    options |= {"noise_labelled": hidden["labelled"], "noise_unlabelled": hidden["unlabelled"]}
    options |= {"params": parameters, "labelled_x": x, "labels": y, "unlabelled_x": unlabelled}
    return oracle_vat.averaged_vat_losses(alpha, draws, finding_noise=find["unlabelled"], **options)


@pytest.mark.parametrize("perturbed", ["unlabelled", "all"])
@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("name", MODELS)
def test_every_term_against_numpy(name, norm, perturbed):
    check(*build(name, norm=norm, perturbed=perturbed))


@pytest.mark.parametrize("perturbed", ["unlabelled", "all"])
@pytest.mark.parametrize("scored_noise", ["shared", "fresh"])
@pytest.mark.parametrize("name", ["vat", "lvac", "lvac-lw"])
def test_a_cost_by_the_larger_sign_and_with_noise_of_its_own(name, scored_noise, perturbed):
    built = build(name, sign="larger", scored_noise=scored_noise, perturbed=perturbed)
    check(*built)
    model, batch, noise = built
    drawn = build(name, sign="drawn", scored_noise=scored_noise, perturbed=perturbed)[0].losses(batch, noise)
    larger = model.losses(batch, noise)
    assert (larger["virtual_adversarial_0"] > drawn["virtual_adversarial_0"]).all()


@pytest.mark.parametrize("perturbed", ["unlabelled", "labelled", "all"])
@pytest.mark.parametrize("name", [*RPT, *ADVERSARIAL, "vat"])
def test_the_vat_papers_models_with_its_relu_and_an_alpha(name, perturbed):
    check(*build(name, alpha=0.7, leaky_slope=0.0, perturbed=perturbed))


RELEASED = {"noise_on": "activation", "hidden_scale": True}


@pytest.mark.parametrize("options", [*({key: value} for key, value in RELEASED.items()), RELEASED])
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(LADDERS)))
def test_noise_on_activations_and_a_scale_at_every_layer(name, options):
    check(*build(name, scored_noise="fresh" if name == "vat" else "shared", **options))


@pytest.mark.parametrize("name", LADDERS)
def test_the_released_decoder(name):
    check(*build(name, decoder="released"))


@pytest.mark.parametrize("scored_noise", ["shared", "fresh"])
@pytest.mark.parametrize("perturbed", ["unlabelled", "all"])
def test_activations_of_hidden_layers_are_perturbed(scored_noise, perturbed):
    options = {"scored_noise": scored_noise, "perturbed": perturbed}
    built = build("lvac-lw", perturbed_on="activation", **options)
    check(*built)
    model, batch, noise = built
    found, other = model.losses(batch, noise), build("lvac-lw", **options)[0].losses(batch, noise)
    assert (found["virtual_adversarial_0"] == other["virtual_adversarial_0"]).all()
    assert (found["virtual_adversarial_1"] != other["virtual_adversarial_1"]).all()


@pytest.mark.parametrize("perturbed", ["unlabelled", "all"])
@pytest.mark.parametrize("name", sorted(set(LADDERS) - {"ladder"}))
def test_a_perturbed_batch_in_two_parts(name, perturbed):
    options = {"perturbed": perturbed} | ({"scored_noise": "fresh"} if name.startswith("lvac") else {})
    built = build(name, perturbed_statistics="split", **options)
    check(*built)
    model, batch, noise = built
    found, other = model.losses(batch, noise), build(name, **options)[0].losses(batch, noise)
    depending = "virtual_adversarial_0" if name.startswith("lvac") else "denoising_0"
    assert (found[depending] != other[depending]).all()


@pytest.mark.parametrize("xi", [None, 1e-6])
def test_in_two_parts_each_part_moves_its_own_statistics_alone(xi):
    model, batch, noise = build("lvac", perturbed_statistics="split", scored_noise="fresh", xi=xi)
    first, z = SIZES["labelled"], batch.unlabelled

    def found(z):
        return model.perturbation(0, z, noise, "unlabelled")

    moved = found(torch.cat([z[:, :first], 2 * z[:, first:]], 1))
    assert torch.equal(moved[:, :first], found(z)[:, :first])
    assert (moved[:, first:] != found(z)[:, first:]).any()


def check(model, batch, noise):
    """Each term of each seed is the oracle's, and is not zero."""
    terms = model.losses(batch, noise)
    for i in range(2):
        wanted = expected(model, batch, noise, i)
        assert terms.keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_allclose(terms[key][i].item(), value, rtol=1e-9, err_msg=f"{key} of seed {i}")
            assert value != 0
