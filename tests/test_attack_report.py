"""Tables of attacks and audits: what stands in them, and what is said of checkpoints that no audit has seen."""

import math

import pandas as pd
from synthetic import attacked, error

from reports import render

ONE_STEP = ("single-step", "single-step/margin", "single-step/float64")


def audited(model: str, seed: int, clean: float) -> list[dict[str, object]]:
    """The rows of an audit that these tables read, all errors by the clean one's size."""
    rows = [error(model, seed, clean, measure="clean_error", attack="audit", n=1000)]
    for eps in (0.1, 0.3, 0.5):
        rows += [
            attacked(model, seed, clean + eps, "Linf", eps, attack=name, n=1000) for name in (*ONE_STEP, "pgd-4x1")
        ]
        rows += [attacked(model, seed, clean + eps, "Linf", eps, attack="worst-1000", n=1000)]
    return rows


def text(rows: list[dict[str, object]], name: str) -> str:
    return render(pd.DataFrame(rows), pd.DataFrame(), pd.DataFrame(), {})[name].decode()


def test_what_remains_begins_with_the_error_of_the_same_images_without_an_attack() -> None:
    clean = {("vat", 0): 0.1, ("vat", 1): 0.16, ("ladder", 0): 0.02, ("ladder", 1): 0.04}
    rows = [row for (model, seed), value in clean.items() for row in audited(model, seed, value)]
    table = text(rows, "remains.md")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    head, first = lines[0], lines[2]
    assert head == ["eps", "attack", "vat", "ladder"]
    sd = {"vat": 6 / math.sqrt(2), "ladder": 2 / math.sqrt(2)}
    assert first == ["0", "none", f"13.00 ± {sd['vat']:.2f}", f"3.00 ± {sd['ladder']:.2f}"]
    assert [line[:2] for line in lines[3:5]] == [["0.1", "one step"], ["0.1", "margin"]]
    assert not [line for line in lines if line[0] == "0.5"], "at an audit's largest eps nothing remains, by design"


def test_models_that_no_audit_has_seen_are_named_beside_table_2() -> None:
    rows = [attacked(model, seed, 0.5, "Linf", n=1000) for model in ("vat", "ladder", "lvan") for seed in (0, 1)]
    for model in ("vat", "ladder", "lvan"):
        assert model in text(rows, "table2.md").split("Not audited, hence without a †: ")[1].split(".")[0]
    rows += audited("vat", 0, 0.1) + audited("vat", 1, 0.1) + audited("lvan", 0, 0.1)
    note = text(rows, "table2.md").split("Not audited, hence without a †: ")[1]
    assert note.startswith("ladder, lvan.\n"), "of lvan one seed of two has been audited"
    rows += audited("ladder", 0, 0.1) + audited("ladder", 1, 0.1) + audited("lvan", 1, 0.1)
    assert "Not audited" not in text(rows, "table2.md")
