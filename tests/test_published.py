"""What is committed under published/, in the README and in docs/ is what the records give."""

from pathlib import Path

import pandas as pd
import pytest

import zoo
from attacks import measure_fgm
from benchmark.publish import check_report, published_files

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def published():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield published_files()


def test_there_are_runs(published):
    folders, files = published
    assert Path("published/quick/report") in folders
    assert {Path("README.md"), Path("docs/quick.md")} <= files.keys()


def test_the_published_reports_and_the_pages_are_those_of_the_records(published, monkeypatch, capsys):
    """Texts to the byte, figures by their data; what differs is in the failure's output."""
    monkeypatch.chdir(ROOT)
    folders, files = published
    assert check_report(files, folders), capsys.readouterr().err


def test_a_page_embeds_tables_and_figures_that_are_there(published):
    text = published[1][Path("docs/quick.md")].decode()
    for name in ("table1-final-mnist", "table2-mnist-50", "smoothness", "robustness"):
        piece = text.split(f"<!-- report: quick {name} -->\n")[1].split("<!-- /report -->")[0]
        assert "| supervised |" in piece or f"](../published/quick/report/{name}.png)" in piece


MODELS = ["supervised", "vat", "ladder", "lvac", "lvac-lw", "lvan", "lvan-lw"]


@pytest.mark.parametrize("model", MODELS)
def test_a_small_checkpoint_errs_as_the_records_say(model, mnist):
    """To 0.02 points, under 4 MB, without an attack and under one step of L-infinity 0.3."""
    file = f"cells/{model}-50/seed-0.safetensors"
    assert (ROOT / "published" / file).stat().st_size < 4e6
    small = zoo.load(ROOT / "published", model, labels=50, seed=0)
    (found,) = measure_fgm(small, mnist.test_images, mnist.test_labels, norms=["Linf"], eps=[0.3])
    records = pd.read_csv(ROOT / f"published/standard/cells/{model}-50/records.csv").query("seed == 0")
    clean = records[records.measure == "test_error"].value.item()
    attacked = records.query("measure == 'attacked_error' and attack == 'fgm' and norm == 'Linf' and eps == 0.3")
    assert found.clean_error == pytest.approx(clean, abs=2.01e-4)
    assert found.attacked_error == pytest.approx(attacked.value.item(), abs=2.01e-4)
