"""Figure 7a of the VAT paper from a history: what it draws by hand, and nothing where nothing was measured."""

import math

import pandas as pd
import pytest
from synthetic import smoothness

from reports import render
from reports.cells import HISTORY, checked
from reports.deviation import figure, table


def measured(seed, epoch, iterations, value):
    return smoothness("vat", seed, epoch, value) | {"measure": f"gradient_deviation/{iterations}"}


ROWS = [measured(seed, epoch, k, 1.0 + seed + 3 * (1 - k)) for seed in (0, 1) for epoch in (1, 2) for k in (0, 1)]
ROWS += [measured(2, 1, 0, math.nan), smoothness("vat", 0, 1, 0.5)]


def test_the_table_by_hand():
    found = table(checked(pd.DataFrame(ROWS), HISTORY, "")).set_index(["power_iterations", "epoch"])
    assert len(found) == 4
    for epoch in (1, 2):
        assert found.loc[(0, epoch), ["mean", "lowest", "highest", "n"]].tolist() == pytest.approx([4.5, 4, 5, 2])
        assert found.loc[(1, epoch), ["mean", "lowest", "highest", "n"]].tolist() == pytest.approx([1.5, 1, 2, 2])


def test_the_figure_draws_the_means():
    (axis,) = figure(table(checked(pd.DataFrame(ROWS), HISTORY, ""))).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axis.lines} == {
        "K = 0": [4.5, 4.5],
        "K = 1": [1.5, 1.5],
    }


def test_another_number_of_power_iterations_is_drawn_too():
    rows = [*ROWS, measured(0, 1, 2, 0.5), measured(0, 2, 2, 0.25)]
    (axis,) = figure(table(checked(pd.DataFrame(rows), HISTORY, ""))).axes
    lines = {line.get_label(): (list(line.get_ydata()), line.get_linestyle()) for line in axis.lines}
    assert lines["K = 2"] == ([0.5, 0.25], "--")
    assert len({style for _, style in lines.values()}) == 3


@pytest.mark.parametrize("iterations", ["", "x", "-1", "1.5", "9" * 30])
def test_what_is_of_no_number_of_power_iterations_is_refused(iterations):
    rows = checked(pd.DataFrame([measured(0, 1, iterations, 0.5)]), HISTORY, "")
    with pytest.raises(ValueError, match=f"unknown measure 'gradient_deviation/{iterations}'"):
        table(rows)


def test_a_report_has_it_where_it_was_measured():
    with_it = render(pd.DataFrame(), pd.DataFrame(ROWS), pd.DataFrame(), {})
    without = render(pd.DataFrame(), pd.DataFrame(ROWS[-1:]), pd.DataFrame(), {})
    assert {"deviation.png", "deviation.pdf", "deviation.csv"} <= with_it.keys()
    assert not {name for name in without if name.startswith("deviation")}
    assert "equation 21" in with_it["report.md"].decode()
    assert "equation 21" not in without["report.md"].decode()
