"""The one-file report in a real headless browser, as wide as a phone."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from golden_run import PROVENANCE, golden

from reports import render

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = 390
FRAME = """<!doctype html><meta charset="utf-8">
<iframe id="report" src="report.html" style="width: %dpx; height: 844px; border: 0"></iframe><pre id="seen"></pre>
<script>
document.getElementById("report").onload = () => {
  const page = document.getElementById("report").contentDocument;
  const text = [...page.querySelectorAll("h1, h2, h3, p, li, figcaption")];
  document.getElementById("seen").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    pictures: page.images.length,
    broken: [...page.images].filter(image => !image.naturalWidth).length,
    outside: text.filter(each => each.getBoundingClientRect().right > %d).map(each => each.textContent.slice(0, 40)),
  });
};
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    """A headless browser, or a skip that says what is missing."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


def seen(browser: str, folder: Path, page: bytes) -> dict:
    """What the browser shows of a report in a frame of a phone's width."""
    (folder / "report.html").write_bytes(page)
    (folder / "frame.html").write_text(FRAME % (PHONE, PHONE), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=20000"]
    files = ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    typed = [browser, *options, *files, "--dump-dom", (folder / "frame.html").as_uri()]
    shown = subprocess.run(typed, capture_output=True, check=True, text=True, timeout=120).stdout
    found = re.search(r'<pre id="seen">(.+)</pre>', shown)
    assert found, shown[-2000:]
    return json.loads(found[1])


@pytest.mark.parametrize("run", ["golden", "standard", "vat-quick", "vat-demo"])
def test_a_report_fits_a_phone(browser, tmp_path, run):
    """Tables scroll within themselves, not the page; every picture is one."""
    path = ROOT / "published" / run / "report/report.html"
    page = render(*golden(), PROVENANCE)["report.html"] if run == "golden" else path.read_bytes()
    found = seen(browser, tmp_path, page)
    assert found["width"] <= PHONE
    assert found["pictures"] > 0
    assert (found["broken"], found["outside"]) == (0, [])


def test_what_does_not_fit_is_seen(browser, tmp_path):
    page = b'<p style="width: 600px">wide</p><img src="data:image/png;base64,AAAA">'
    found = seen(browser, tmp_path, page)
    assert found["width"] > PHONE
    assert (found["pictures"], found["broken"], found["outside"]) == (1, 1, ["wide"])
