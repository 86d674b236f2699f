"""What is committed under published/, in the README and in docs/ is what the records give."""

import hashlib
import io
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import reports.report
import zoo
from attacks import measure_fgm
from benchmark.publish import check_report, published_files

ROOT = Path(__file__).parents[1]


def of_data(draw, table, data):
    """In the place of a figure a picture of its size, and what both it and the PDF would be drawn from."""
    digest = f"data sha256 {hashlib.sha256(data.encode()).hexdigest()}"
    facts, png = PngInfo(), io.BytesIO()
    facts.add_text("Description", digest)
    size = tuple(int(150 * inches) for inches in draw(table).get_size_inches())
    Image.new("1", size).save(png, "png", pnginfo=facts)
    return png.getvalue(), f"%PDF /Subject ({digest}) /Producer ()".encode()


@pytest.fixture(scope="module")
def published():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(reports.report, "images", of_data)
        yield published_files()


def test_there_are_runs(published):
    folders, files = published
    assert Path("published/quick/report") in folders
    assert {Path("README.md"), Path("docs/quick.md")} <= files.keys()


def test_the_published_reports_and_the_pages_are_those_of_the_records(published, monkeypatch, capsys):
    """Texts to the byte, figures by the data that they say they are of; what differs is in the failure's output."""
    monkeypatch.chdir(ROOT)
    folders, files = published
    assert check_report(files, folders), capsys.readouterr().err


@pytest.mark.slow
def test_the_published_figures_are_as_the_code_draws_them(monkeypatch, capsys):
    """To the pixel, and to the byte of a PDF, where the same libraries drew them."""
    monkeypatch.chdir(ROOT)
    folders, files = published_files()
    assert check_report(files, folders), capsys.readouterr().err


def test_a_figure_of_other_data_is_found(published, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    folders, files = published
    changed = [Path("published/quick/report") / name for name in ("smoothness.pdf", "robustness.pdf")]
    other = {path: of_data(lambda _: Figure(), None, "other data")[1] for path in changed}
    assert not check_report(files | other, folders)
    said = capsys.readouterr().err.splitlines()[1:]
    assert [line.split(": drawn from other data")[0] for line in said] == sorted(map(str, changed))


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
