"""Figures by the boxes of what is written in them, axes by their ticks."""

from itertools import combinations

import matplotlib.style
import pandas as pd
import pytest
from golden_run import NO_RECORDS, PROVENANCE, golden
from matplotlib.text import Text
from synthetic import error

from reports import one_and_many
from reports.canvas import LOOKS, drawn, log_ticks
from reports.report import SECTIONS, prepared


def labels(records, history=NO_RECORDS, plan=NO_RECORDS):
    """What is written in each figure on these records, and the pairs of texts that touch."""
    run = prepared(records, history, plan, PROVENANCE)
    written, touching = {}, []
    with matplotlib.style.context(LOOKS):
        for name, build in SECTIONS.items():
            for picture in build(run).pictures:
                figure = drawn(picture.draw, picture.data)
                figure.draw_without_rendering()
                texts = {text for text in figure.findobj(Text) if text.get_text() and text.get_visible()}
                texts -= {*beyond(figure)}
                boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
                written[name] = {text for text, _ in boxes}
                touching += [(name, a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]
    return written, touching


def beyond(figure):
    """The labels of ticks that are not in their axis' range, which are not drawn."""
    found = []
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        out = [tick for tick in axis.majorTicks if not low <= tick.get_loc() <= high]
        found += [label for tick in out for label in (tick.label1, tick.label2)]
    return found


@pytest.mark.parametrize(
    ("low", "high", "kept"), [(0.2, 0.25, {"0", "20"}), (0.1, 0.12, {"0", "12"}), (0.001, 0.3, {"0", "0.1", "1", "10"})]
)
def test_no_label_touches_another_and_some_are_left(low, high, kept):
    """An error of 0 makes the axis linear below the smallest: what is left for the others is narrow."""
    values = {"vat": 0.0, "supervised": low, "ladder": high}
    written, touching = labels(pd.DataFrame([error(model, 0, value) for model, value in values.items()]))
    assert touching == []
    assert kept | {"vat", "supervised", "ladder"} <= written["robustness"]


def test_no_label_of_the_golden_figures_touches_another():
    written, touching = labels(*golden())
    assert touching == []
    assert {"2", "5", "10", "epoch"} <= written["smoothness"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1.6, 90, [2, 5, 10, 20, 50]),
        (1e-5, 1, [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]),
        (1.2, 3.3, [2, 3]),
        (26, 28, [26, 26.5, 27, 27.5, 28]),
    ],
)
def test_an_axis_has_a_few_round_ticks(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks, rel=1e-12)


def test_one_and_many_names_each_eps_and_a_lone_panel_is_no_strip():
    """Its legend takes as much height as a row of panels."""
    errors = one_and_many.table(golden()[0])
    alone = errors[(errors["model"] == "vat") & (errors["labels"] == 50)].replace({"eps": {0.2: 0.3}})
    with matplotlib.style.context(LOOKS):
        figure = drawn(one_and_many.figure, alone)
    (axes,) = figure.axes
    named = [tick.label1.get_text() for tick in axes.xaxis.get_major_ticks() if tick.label1.get_visible()]
    assert named == [f"{eps:g}" for eps in sorted(set(alone["eps"]))]
    assert "0.3" in named
    assert axes.get_window_extent().height > 0.35 * figure.bbox.height


def test_one_and_many_says_where_a_model_was_not_audited():
    errors = one_and_many.table(golden()[0])
    assert set(errors["model"]) == {"vat", "lvan-lw"}
    more = pd.concat([errors, errors[errors["model"] == "vat"].assign(labels=1000)])
    for shown, empty in ((errors, []), (more, ["lvan-lw"])):
        with matplotlib.style.context(LOOKS):
            figure = drawn(one_and_many.figure, shown)
        said = [axes.get_title() for axes in figure.axes if "not audited" in [text.get_text() for text in axes.texts]]
        assert said == empty
