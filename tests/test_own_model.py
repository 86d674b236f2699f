"""python -m benchmark attack --model: anyone's model, from what is typed to the report."""

import json
import sys

import pandas as pd
import pytest
from running import fails, files, records

from benchmark.attacking import ATTACK_MEASURES
from benchmark.own_model import IDENTITY

pytestmark = pytest.mark.usefixtures("plain_pictures")

MODELS = """
import os
import torch
from torch import nn

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 10)
    def forward(self, x):
        return self.layer(x.flatten(1))

class Convolution(Flat):
    def forward(self, x):
        assert x.shape[1:] == (1, 8, 8), "not an image"
        return super().forward(x)

class Strict(Flat):
    def forward(self, x):
        assert x.ndim == 2
        return self.layer(x)

class Pair(Flat):
    def forward(self, x):
        return super().forward(x), x

class CutOff(Flat):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)

class Single(Flat):
    def forward(self, x):
        return super().forward(x.float())

class Company(Flat):
    def forward(self, x):
        return super().forward(x - x.mean(0))

class Chance(Flat):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()
        self.generator.seed()
    def __deepcopy__(self, memo):
        return Chance().eval()
    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), 10, generator=self.generator).to(x)

def chance(): return Chance().eval()
def linear(): return Flat().eval()
def images_only(): return Convolution().eval()
def rows_only(): return Strict().eval()
def company(): return Company().eval()
def pair(): return Pair().eval()
def cut_off(): return CutOff().eval()
def single(): return Single().eval()
def training(): return Flat()
def probabilities(): return nn.Sequential(Flat(), nn.Softmax(1)).eval()
def sigmoid(): return nn.Sequential(Flat(), nn.Sigmoid()).eval()
def not_finite(): return nn.Sequential(Flat(), nn.Threshold(1e9, float("nan"))).eval()
def neither(): return nn.Sequential(nn.Flatten(), nn.Linear(7, 10)).eval()
class Half(Flat):
    def forward(self, x):
        return super().forward(x).bfloat16()

class Few(Flat):
    def forward(self, x):
        assert len(x) <= 200, "too many at once"
        return super().forward(x)

class Quits(Flat):
    def forward(self, x):
        raise SystemExit(3)

class Fixed(Flat):
    def to(self, device):
        raise RuntimeError("stays where it is")

class Tires(Flat):
    def forward(self, x):
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked > 500:
            raise SystemExit("tired")
        return super().forward(x)

def quits(): return Quits().eval()
def fixed(): return Fixed().eval()
def tires(): return Tires().eval()
def asserts(): assert False
def wanders():
    os.chdir("/")
    return linear()
def half(): return Half().eval()
def few(): return Few().eval()
def other(): return Flat().eval()
def leaves(): raise SystemExit(3)
def no_model(): return "a string"
def raises(): raise RuntimeError("no weights here")
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A folder with a module of models, the working directory."""
    (tmp_path / "theirs.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("factory", ["linear", "images_only", "rows_only", "wanders"])
def test_anyones_model_gets_curves_and_audit(theirs, call, factory):
    code, out, err = call("attack", "--model", f"theirs:{factory}", "--data", "digits", "--images", "20", "--out", "o")
    assert (code, err) == (0, [])
    assert out[-1] == "report: o/report/report.md"
    found = records(theirs / "o")
    assert set(found["measure"]) >= {*ATTACK_MEASURES, "test_error", "probability_share", "median_distance"}
    page = (theirs / "o/report/report.md").read_text()
    for heading in ("## Audit", "## What remains", "## Error against eps, Linf"):
        assert heading in page
    assert "0 labels" not in page
    assert "No test error" not in page
    made = json.loads((theirs / "o/provenance.json").read_text())["stages"]
    assert [stage["stage"] for stage in made] == ["attack", "audit"]
    for stage in made:
        assert stage["sittings"][0]["command"].startswith("python -m benchmark attack --model theirs:")


@pytest.mark.parametrize(
    ("factory", "said"),
    {
        "theirs:training": "expected a model in evaluation mode (model.eval()), got training mode",
        "theirs:probabilities": "expected logits, got probabilities",
        "theirs:not_finite": "expected finite logits",
        "theirs:pair": "expected logits as one tensor, got tuple",
        "theirs:cut_off": "expected logits differentiable with respect to x",
        "theirs:sigmoid": "expected logits, got values from 0 to 1 alone",
        "theirs:neither": "takes neither (N, 1, 8, 8) nor (N, 64) images",
        "theirs:half": "expected logits of dtype float32 or float64, got bfloat16",
        "theirs:few": "too many at once",
        "theirs:leaves": "SystemExit: 3",
        "theirs:quits": "takes neither (N, 1, 8, 8) nor (N, 64) images: SystemExit: 3 (theirs.py, line ",
        "theirs:fixed": "RuntimeError: stays where it is (theirs.py, line ",
        "theirs:asserts": "AssertionError (theirs.py, line ",
        "theirs:no_model": "expected no_model() to give an nn.Module, got str",
        "theirs:raises": "RuntimeError: no weights here",
        "theirs:absent": "AttributeError: module 'theirs' has no attribute 'absent'",
        "nowhere:linear": "ModuleNotFoundError: No module named 'nowhere'",
        "theirs": "expected package.module:factory",
    }.items(),
)
def test_what_is_no_sound_model_is_one_line(theirs, call, factory, said):
    fails(call("attack", "--model", factory, "--data", "digits", "--out", "o"), f"--model {factory}", said)
    assert not (theirs / "o").exists()


def test_a_model_that_fails_in_the_middle_is_named_and_what_was_found_stays(theirs, call):
    typed = ("attack", "--model", "theirs:tires", "--data", "digits", "--images", "20", "--out", "o")
    fails(call(*typed), "--model theirs:tires fails under attack: SystemExit: tired (theirs.py, line ")
    assert set(records(theirs / "o")["measure"]) == {"test_error", *ATTACK_MEASURES}


def test_an_answer_that_depends_on_its_company_is_seen(theirs, call):
    code, _, err = call("attack", "--model", "theirs:company", "--data", "digits", "--images", "20", "--out", "o")
    assert (code, err) == (0, [])
    found = pd.read_csv(theirs / "o/report/audit.csv").set_index("check")["verdict"]
    assert found["deterministic"] == "fail"
    assert found["white box beats black box"] == "not run"


def test_what_a_model_cannot_calculate_in_float64_is_not_run(theirs, call):
    code, out, err = call("attack", "--model", "theirs:single", "--data", "digits", "--images", "20", "--out", "o")
    assert (code, err) == (0, [])
    assert out[0] == "theirs:single: does not calculate in float64: what needs that is not run"
    found = pd.read_csv(theirs / "o/report/audit.csv").set_index("check")["verdict"]
    assert found["float32 is enough"] == "not run"
    assert found["cross-entropy is enough"] != "not run"
    assert not records(theirs / "o")["attack"].str.endswith("float64").any()
    again = call("attack", "--model", "theirs:single", "--data", "digits", "--images", "20", "--out", "o")
    assert not any("attacking" in line or "descents" in line for line in again[1]), "nothing is missing"


def test_what_is_there_of_ones_own_model_is_not_made_again(theirs, call):
    typed = ("attack", "--model", "theirs:linear", "--data", "digits", "--images", "20", "--out", "o")
    assert "theirs:linear: attacking" in call(*typed)[1]
    first = files(theirs / "o")
    assert not any("theirs:linear:" in line for line in call(*typed)[1])
    assert files(theirs / "o") == first
    lines = call(*typed[:-4], "--images", "30", "--out", "o")[1]
    assert "theirs:linear: attacking" not in lines, "the fast gradient method's figures are of all images"
    assert any("descents" in line for line in lines)
    assert set(records(theirs / "o").query("attack == 'pgd-40x2'")["n"]) == {30}
    module = theirs / "theirs.py"
    module.write_text(module.read_text().replace("manual_seed(0)", "manual_seed(12)"))
    sys.modules.pop("theirs")
    before = files(theirs / "o")
    fails(call(*typed), "o: theirs:linear predicts otherwise than when it was attacked", "--out")
    assert files(theirs / "o") == before, "nothing that was finished is lost"


def test_a_model_of_chance_predictions_is_not_audited_again(theirs, call):
    typed = ("attack", "--model", "theirs:chance", "--data", "digits", "--images", "20", "--out", "o")
    assert call(*typed)[0] == 0
    first = files(theirs / "o")
    code, out, err = call(*typed)
    assert (code, err) == (0, [])
    assert out[0] == "theirs:chance: its predictions differ from call to call: taken for the model that was attacked"
    assert len(out) == 2, "and the report"
    assert files(theirs / "o") == first


def test_records_with_a_line_twice_are_named(theirs, call):
    typed = ("attack", "--model", "theirs:linear", "--data", "digits", "--images", "20", "--out", "o")
    assert call(*typed)[0] == 0
    path = theirs / "o/records.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, next(line for line in lines if ",clean_error,audit," in line)]) + "\n")
    fails(call(*typed), "o/records.csv: recorded twice: ", "measure clean_error, attack audit")


def test_points_are_no_images(theirs, call):
    fails(
        call("attack", "--model", "theirs:linear", "--data", "moons", "--out", "o"),
        "--model theirs:linear takes no (N, 2) images",
    )


def test_a_run_is_not_overwritten_by_ones_own_model(copy, call):
    fails(
        call("attack", "--model", "torch.nn:Identity", "--data", "digits", "--out", "run"), "run is the folder of a run"
    )


def test_a_cell_of_a_run_is_not_taken_for_a_folder_of_ones_own_model(copy, call):
    before = files(copy)
    (copy.parent / "ours.py").write_text(MODELS)
    typed = ("attack", "--model", "ours:linear", "--data", "digits", "--images", "10", "--out")
    fails(call(*typed, "run/cells/vat-50"), "run/cells/vat-50 is a run's own, it has config.json", "--out")
    assert files(copy) == before


def test_a_folder_is_of_one_model_and_one_data_set(theirs, call):
    typed = ("attack", "--images", "20", "--out", "o")
    assert call(*typed, "--model", "theirs:linear", "--data", "digits")[0] == 0
    before = files(theirs / "o")
    fails(call(*typed, "--model", "theirs:other", "--data", "digits"), "o holds the attacks on model 'theirs:linear'")
    path = theirs / "o" / IDENTITY
    path.write_text(path.read_text().replace("digits", "mnist"))
    fails(call(*typed, "--model", "theirs:linear", "--data", "digits"), "o holds the attacks on data 'mnist'", "--out")
    path.write_text(path.read_text().replace("mnist", "digits"))
    assert files(theirs / "o") == before, "nothing that was finished is lost"


def test_the_report_names_who_attacked_not_who_typed_last(theirs, call):
    typed = ("attack", "--model", "theirs:linear", "--data", "digits", "--images", "20", "--out", "o")
    assert call(*typed)[0] == 0
    path = theirs / "o/provenance.json"
    noted = json.loads(path.read_text())
    for stage in noted["stages"]:
        stage["sittings"][0]["environment"] |= {"commit": "of that day", "device": "another machine"}
    path.write_text(json.dumps(noted))
    assert call(*typed)[0] == 0
    page = (theirs / "o/report/report.md").read_text()
    assert "- Commit: of that day" in page
    assert "- Device: another machine" in page


def test_a_folder_that_notes_no_predictions_goes_on(theirs, call):
    typed = ("attack", "--model", "theirs:linear", "--data", "digits", "--images", "20", "--out", "o")
    assert call(*typed)[0] == 0
    path = theirs / "o" / IDENTITY
    noted = json.loads(path.read_text())
    assert noted.pop("predictions")
    path.write_text(json.dumps(noted))
    before = files(theirs / "o")
    assert call(*typed)[0] == 0
    assert files(theirs / "o") == before
