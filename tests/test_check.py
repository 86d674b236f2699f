"""`report --check`: what is found wrong, and what is none of a report's fault."""

import base64
import hashlib
import io

import matplotlib
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin
from synthetic import error

import reports.canvas
from reports import differences, render

NOTHING = pd.DataFrame()


def drawn(value=0.1):
    return render(pd.DataFrame([error("vat", s, value + s / 100) for s in (0, 1)]), NOTHING, NOTHING, {"suite": "tiny"})


@pytest.fixture(scope="module")
def files():
    return drawn()


def test_the_same_is_right(files):
    assert differences(drawn(), files) == []


def test_an_edited_text_is_shown_as_a_diff(files):
    edited = files | {"table1.md": files["table1.md"].replace(b"10.50", b"10.05")}
    lines = differences(edited, files)
    assert lines[:2] == ["--- table1.md, there", "+++ table1.md, from records"]
    assert sum(line.startswith("-|") and "10.05" in line for line in lines) == 1
    assert sum(line.startswith("+|") and "10.50" in line for line in lines) == 1
    assert max(map(len, lines)) < 620


@pytest.mark.parametrize("change", [lambda old: old.replace(b"\n", b"\r\n"), lambda old: old + b"\n"])
def test_line_ends_are_compared(files, change):
    assert differences(files | {"report.md": change(files["report.md"])}, files) != []


def test_missing_and_superfluous_files_are_named(files):
    have = {name: content for name, content in files.items() if name != "table2.csv"} | {"smoothness.png": b""}
    assert differences(have, files) == [
        "smoothness.png: there, but the records give no such file",
        "table2.csv: missing",
    ]


def test_a_figure_of_other_data_is_named(files):
    other = drawn(0.2)
    have = files | {name: other[name] for name in ("robustness.png", "robustness.pdf")}
    lines = differences(have, files)
    assert [line.split(":")[0] for line in lines if "other data" in line] == ["robustness.pdf", "robustness.png"]
    assert any("report.html" in line for line in lines), "the page holds another figure than the file beside it"


def repainted(content, change=lambda picture: None, **info):
    """The picture saved again, with what it carries, perhaps changed."""
    with Image.open(io.BytesIO(content)) as picture:
        facts = PngImagePlugin.PngInfo()
        for key, text in (picture.info | info).items():
            if isinstance(text, str):
                facts.add_text(key, text)
        change(picture)
        buffer = io.BytesIO()
        picture.save(buffer, format="png", pnginfo=facts, compress_level=1)
    return buffer.getvalue()


def with_png(files, content):
    """The report with another robustness.png, in its page too."""
    old, new = (base64.b64encode(each) for each in (files["robustness.png"], content))
    return files | {"robustness.png": content, "report.html": files["report.html"].replace(old, new)}


def test_other_bytes_of_the_same_picture_are_right(files):
    content = repainted(files["robustness.png"])
    assert content != files["robustness.png"]
    assert differences(with_png(files, content), files) == []


def test_a_painted_picture_is_found_unless_another_version_drew_it(files):
    def dot(picture):
        picture.putpixel((5, 5), (255, 0, 0, 255))

    (line,) = differences(with_png(files, repainted(files["robustness.png"], dot)), files)
    assert line.startswith("robustness.png: edited, or drawn by other code")
    elsewhere = repainted(files["robustness.png"], dot, Software="matplotlib 3.9.0, freetype 2.6.1")
    assert differences(with_png(files, elsewhere), files) == []


def test_a_pdf_of_other_code_is_found(files):
    content = files["robustness.pdf"].replace(b"\nQ\n", b"\nQ \n", 1)
    assert content != files["robustness.pdf"]
    (line,) = differences(files | {"robustness.pdf": content}, files)
    assert "robustness.pdf: edited" in line


def test_a_figure_of_another_kind_is_named(files):
    picture, other = files["robustness.png"], files["robustness.pdf"]
    (line,) = differences(files | {"robustness.pdf": picture}, files)
    assert line == "robustness.pdf: a PDF in a PNG's place, or a PNG in a PDF's"
    assert "robustness.png: a PDF in a PNG's place, or a PNG in a PDF's" in differences(
        files | {"robustness.png": other}, files
    )


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4 of something else", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_figure_of_ours_is_said(files, content):
    for name in ("robustness.png", "robustness.pdf"):
        assert f"{name}: not a figure of these reports" in differences(files | {name: content}, files)


def test_a_figure_carries_its_data_and_who_drew_it(files):
    digest = hashlib.sha256(files["robustness.csv"]).hexdigest()
    with Image.open(io.BytesIO(files["robustness.png"])) as picture:
        assert picture.info["Description"] == f"data sha256 {digest}"
        assert picture.info["Software"] == reports.canvas.DRAWN_BY
    assert f"data sha256 {digest}".encode() in files["robustness.pdf"]
    assert b"Date" not in files["robustness.pdf"]


def test_a_user_s_matplotlib_settings_change_nothing(files, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20)
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", 50)
    monkeypatch.setitem(matplotlib.rcParams, "axes.grid", True)
    assert drawn() == files
