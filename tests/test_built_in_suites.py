"""The built-in suites are what the papers and the released runs say."""

from dataclasses import replace
from itertools import product

import pytest
from running import ROOT, cells_of, write_suite

from benchmark.choice import best
from benchmark.provenance import described, shared
from benchmark.suite import BUILT_IN, load_suite
from zoo.config import LADDERS, RPT
from zoo.randomness import stream

FIVE = (8340, 8794, 2773, 967, 2368)
SEEDS = {50: (*FIVE, 1496, 2049, 370, 748, 7698), 100: FIVE, 1000: FIVE}
BATCHES = {100: (100, 250), 1000: (100, 250)}
SEVEN = ("supervised", "vat", "ladder", "lvac", "lvac-lw", "lvan", "lvan-lw")
FUSIONS = ("vat", "ladder", "lvac", "lvac-lw", "lvan", "lvan-lw")
PERTURBING = ("vat", "lvac", "lvac-lw", "lvan", "lvan-lw")
ENCODER = (784, 1000, 500, 250, 250, 250, 10)

# Appendix A as printed: model, labels, lambda of layers 0, 1 and all above, eps of layers 0, 1 and all above.
PUBLISHED = [
    ("lvac", 50, (1504, 16.15, 0.0381), (0.0733,)),
    ("lvac", 100, (1966, 14.20, 0.1563), (0.0731,)),
    ("lvac", 1000, (3883, 12.35, 0.0539), (2.5206,)),
    ("lvac-lw", 50, (1000, 10.0, 0.1), (1.0, 0.1, 0.001)),
    ("lvac-lw", 100, (1966, 14.20, 0.1563), (0.0731, 0.4822, 0.001402)),
    ("lvac-lw", 1000, (3883, 12.35, 0.0539), (2.5206, 0.0143, 0.0006002)),
    ("lvan", 50, (1504, 16.15, 0.0381), (0.0733,)),
    ("lvan", 100, (1966, 14.20, 0.1563), (0.0731,)),
    ("lvan", 1000, (3883, 12.35, 0.0539), (2.5206,)),
    ("lvan-lw", 50, (1504, 16.15, 0.0381), (0.0733, 0.3897, 0.08372)),
    ("lvan-lw", 100, (1966, 14.20, 0.1563), (0.0731, 0.4822, 0.001402)),
    ("lvan-lw", 1000, (3883, 12.35, 0.0539), (2.5206, 0.0143, 0.0006002)),
    ("ladder", 50, (1504, 16.15, 0.0381), ()),
    ("ladder", 100, (1966, 14.20, 0.1563), ()),
    ("ladder", 1000, (3883, 12.35, 0.0539), ()),
    ("vat", 50, (), (5.0,)),
    ("vat", 100, (), (5.0,)),
    ("vat", 1000, (), (2.5,)),
]


GRIDS = {  # data set, models, seeds by labels, epochs, first epoch of decay, (labelled, unlabelled) batch by labels
    "smoke": ("digits", SEVEN, {50: (0, 1), 100: (0, 1)}, 20, 16, {50: (50, 100), 100: (100, 100)}),
    "quick": ("mnist", SEVEN, dict.fromkeys((50, 100, 1000), (0, 1)), 10, 8, BATCHES | {50: (50, 250)}),
    "standard": ("mnist", SEVEN, dict.fromkeys((50, 100, 1000), (0, 1, 2)), 40, 32, BATCHES | {50: (50, 250)}),
    "finite-difference": ("mnist", PERTURBING, {50: (0, 1, 2)}, 40, 32, {50: (50, 250)}),
    "released-decoder": (
        "mnist",
        LADDERS,
        dict.fromkeys((50, 100, 1000), (0, 1, 2)),
        40,
        32,
        BATCHES | {50: (50, 250)},
    ),
    "full": ("mnist", FUSIONS, SEEDS, 250, 200, {50: (50, 100), 100: (100, 100), 1000: (100, 100)}),
    "released": ("mnist", FUSIONS, SEEDS, 250, 200, BATCHES | {50: (50, 150)}),
    "constant-rate": ("mnist", LADDERS, SEEDS, 250, 250, BATCHES | {50: (50, 150)}),
    "split-statistics": ("mnist", PERTURBING[1:], SEEDS, 250, 250, BATCHES | {50: (50, 150)}),
    "smoothness": ("mnist", SEVEN, {50: (8340, 8794, 2773)}, 150, 100, {50: (50, 100)}),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_two_streams_of_a_suite_are_the_same_in_the_32_bits_that_a_cpu_keeps(name):
    cells = cells_of(name)
    epochs, seeds = (range(max(cell.training.epochs for cell in cells) + 1), {s for cell in cells for s in cell.seeds})
    purposes = ("labelled", "unlabelled", "noise", "deviation", "initialisation", "smoothness", "virtual")
    streams = [stream(*which).initial_seed() % 2**32 for which in product(seeds, purposes, epochs)]
    assert len(set(streams)) == len(streams)


def test_there_are_no_other_suites():
    assert set(BUILT_IN) == {*GRIDS, *VAT_GRIDS, "vat-quick", "vat-demo"}


@pytest.mark.parametrize("name", GRIDS)
def test_built_in_suites(name):
    dataset, models, seeds, epochs, decay_from, batches = GRIDS[name]
    cells = cells_of(name)
    assert {(c.model.name, c.training.labels) for c in cells} == {(m, count) for m in models for count in seeds}
    assert len(cells) == len(models) * len(seeds)
    for cell in cells:
        training = cell.training
        assert (training.dataset, training.epochs, training.decay_from) == (dataset, epochs, decay_from)
        assert cell.seeds == tuple(sorted(seeds[training.labels]))
        assert (training.labelled_batch, training.unlabelled_batch) == batches[training.labels]
        assert training.learning_rate == 0.002
        assert training.smoothness_eps == 5.0
        assert cell.attack.norms == ("L1-spread", "L1-pixel", "L2", "Linf")
        assert 0.3 in cell.attack.eps
        if dataset == "mnist":
            assert cell.model.widths == ENCODER
            assert cell.attack.eps == (0.3,)


VAT_GRIDS = {  # models, seeds by labels, (labelled, unlabelled) batch, epochs, updates an epoch, decay, from, held out
    "vat-supervised": (
        ("supervised", "rpt", "adversarial-linf", "adversarial-l2", "vat"),
        {60_000: tuple(range(10))},
        ((100, 100), 100, 600, "exponential", 0, 0),
    ),
    "vat-figures": (
        ("supervised", "rpt", "rpt-9", "vat"),
        {60_000: (0, 1, 2)},
        ((100, 100), 100, 600, "exponential", 0, 0),
    ),
    "vat-semi": (
        ("supervised", "rpt", "vat"),
        dict.fromkeys((100, 1000), (0, 1, 2)),
        ((64, 256), 400, 250, "linear", 200, 1000),
    ),
}


@pytest.mark.parametrize("name", VAT_GRIDS)
def test_suites_of_the_vat_paper_are_its_appendices(name):
    models, seeds, schedule = VAT_GRIDS[name]
    cells = cells_of(name)
    assert {(c.model.name, c.training.labels) for c in cells} == {(m, count) for m in models for count in seeds}
    for cell in cells:
        t = cell.training
        batches = (t.labelled_batch, t.unlabelled_batch)
        assert (batches, t.epochs, t.updates(60_000), t.decay, t.decay_from, t.validation) == schedule
        assert (cell.seeds, t.learning_rate) == (seeds[t.labels], 0.002)
        assert cell.model.widths == (784, 1200, 600, 300, 150, 10)
        assert (cell.model.leaky_slope, cell.model.xi) == (0.0, None)
        assert cell.model.hidden_sd == (0.5 if name == "vat-semi" else 0.0)
        assert cell.model.hyperparameters.alpha == 1.0
        assert cell.model.power_iterations == (0 if cell.model.name in RPT else 1)
        assert cell.model.perturbed == ("unlabelled" if name == "vat-semi" else "labelled")
        assert cell.model.normalised_logits == (name != "vat-semi")
    assert load_suite("vat-supervised").ranges == {
        "rpt": (1.0, 50.0),
        "adversarial-linf": (0.05, 0.1),
        "adversarial-l2": (0.05, 5.0),
        "vat": (0.05, 5.0),
    }
    assert load_suite("vat-semi").ranges == {"rpt": (0.05, 10.0), "vat": (0.05, 10.0)}


def test_full_trains_the_papers_120_models():
    cells = cells_of("full")
    assert sum(len(cell.seeds) for cell in cells) == 120
    assert {cell.model.power_iterations for cell in cells} == {3}
    assert {cell.model.corruption_sd for cell in cells} == {0.3}
    assert {cell.model.hidden_sd for cell in cells} == {0.5}


@pytest.mark.parametrize("suite", ["smoke", "standard", "full", "released", "smoothness"])
def test_vat_has_the_released_runs_network_the_rest_the_ladders_and_released_their_decoder(suite):
    for cell in cells_of(suite):
        network = (cell.model.noise_on, cell.model.hidden_scale)
        assert network == (("activation", True) if cell.model.name == "vat" else ("normalised", False))
        labelled = "corrupted" if cell.model.name == "vat" else "labelled"
        others = "labelled" if cell.model.name == "supervised" else "unlabelled"
        assert cell.model.statistics == (labelled if suite == "released" else others)
        released = suite == "released" and cell.model.name in LADDERS
        assert cell.model.decoder == ("released" if released else "rasmus")
        active = released and cell.model.name == "lvac-lw"
        assert cell.model.perturbed_on == ("activation" if active else "normalised")
        told = described(cell)
        assert ("a scale at every layer" in told) == ("on activations" in told) == (cell.model.name == "vat")
        assert ("on hidden layers" in told) == (cell.model.name == "supervised")


VARIANTS = [
    ("finite-difference", PERTURBING, [50], {"xi": 1e-6}, {"xi": None}),
    ("released-decoder", LADDERS, [50, 100, 1000], {"decoder": "released"}, {"decoder": "rasmus"}),
]


@pytest.mark.parametrize(("name", "models", "labels", "own", "standard"), VARIANTS)
def test_a_variant_differs_from_standard_in_one_thing(name, models, labels, own, standard):
    cells = cells_of(name)
    assert [replace(cell, model=replace(cell.model, **own)) for cell in cells] == cells
    as_standard = [replace(cell, model=replace(cell.model, **standard)) for cell in cells]
    assert as_standard == cells_of("standard", models=models, labels=labels)


def test_constant_rate_differs_from_released_in_that_alone():
    cells = cells_of("constant-rate")
    assert {cell.training.rate(epoch) for cell in cells for epoch in range(cell.training.epochs)} == {0.002}
    falling = [replace(cell, training=replace(cell.training, decay_from=200)) for cell in cells]
    assert falling == cells_of("released", models=LADDERS)


def test_split_statistics_differs_from_constant_rate_in_that_alone():
    cells = cells_of("split-statistics")
    assert {cell.model.perturbed_statistics for cell in cells} == {"split"}
    whole = [replace(cell, model=replace(cell.model, perturbed_statistics="batch")) for cell in cells]
    assert whole == cells_of("constant-rate", models=PERTURBING[1:])


@pytest.mark.parametrize("suite", ["full", "released"])
@pytest.mark.parametrize(("model", "labels", "weights", "eps"), PUBLISHED)
def test_appendix_a_layer_by_layer(suite, model, labels, weights, eps):
    (cell,) = cells_of(suite, models=[model], labels=[labels])
    if weights:
        first, second, above = weights
        assert cell.model.denoising_weights() == [first, second, above, above, above, above, above]
    else:
        assert cell.model.hyperparameters.denoising_weights == ()
    radii = eps if len(eps) < 2 else (eps[0], eps[1], eps[2], eps[2], eps[2], eps[2])
    assert cell.model.eps() == dict(enumerate(radii))


@pytest.mark.parametrize(
    ("name", "models"),
    [("vat-supervised", ("rpt", "adversarial-linf", "adversarial-l2", "vat")), ("vat-quick", ("rpt", "vat"))],
)
def test_eps_are_what_tune_chose(name, models):
    for cell in cells_of(name, models=models):
        choice = best(ROOT / "published" / name / "tuning/tuning.csv", cell)
        assert choice is not None
        assert choice.hyperparameters == cell.model.hyperparameters


def test_a_report_names_no_more_test_images_than_there_are(tmp_path):
    for given, said in ((100, 100), (5000, 500)):
        (cell, *_) = cells_of(write_suite(tmp_path, ("smoothness_images = 100", f"smoothness_images = {given}")))
        assert shared(cell, "smoothness_images") == said
        assert shared(cell, "epochs") == 2
