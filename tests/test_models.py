"""The looks of the models: told apart in print, in grey and by the colour-blind."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from reports.models import MODELS, styles

# What a protanope and a deuteranope see of linear RGB: Machado, Oliveira and Fernandes (2009), "A Physiologically-based
# Model for Simulation of Color Vision Deficiency", IEEE TVCG 15(6), severity 1.0.
SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # IEC 61966-2-1


def lab(colour, seen):
    """CIELAB (D65) of an sRGB colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratios = XYZ @ np.clip(np.array(seen) @ linear, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(ratios > (6 / 29) ** 3, np.cbrt(ratios), ratios * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_lab_of_known_colours():
    assert lab("#FFFFFF", SEEN["all"]) == pytest.approx([100, 0, 0], abs=0.02)
    assert lab("#FF0000", SEEN["all"]) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


@pytest.mark.parametrize("sight", SEEN)
def test_no_two_colours_look_alike(sight):
    """A distance of 15 is far above the 2.3 that is just noticed."""
    seen = {colour: lab(colour, SEEN[sight]) for colour in {style.colour for style in MODELS.values()}}
    for one, other in combinations(sorted(seen), 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)


def test_red_and_green_of_one_lightness_would_look_alike():
    """What the test above is for: matplotlib's own red and green, as far apart as any two to most."""
    red, green = "#D62728", "#2CA02C"
    assert np.linalg.norm(lab(red, SEEN["all"]) - lab(green, SEEN["all"])) > 100
    assert np.linalg.norm(lab(red, SEEN["deuteranopia"]) - lab(green, SEEN["deuteranopia"])) < 10


def test_models_are_told_apart_in_grey():
    """No two have one marker; two of one line differ in lightness."""
    looks = styles([*MODELS, *"abcdefgh"])
    assert len({style.marker for style in looks.values()}) == len(looks)
    for (one, a), (other, b) in combinations(MODELS.items(), 2):
        if a.line == b.line:
            assert abs(lab(a.colour, SEEN["all"])[0] - lab(b.colour, SEEN["all"])[0]) > 7, (one, other)
