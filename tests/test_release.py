"""python -m benchmark release: what is published of a run, and the small checkpoints that load from there."""

import json
import shutil

import pytest
import torch
from running import fails, files

import zoo
from benchmark import release
from benchmark.command_line import main
from reports.cells import TUNING
from zoo.checkpoints import FINER, SMALL, load_checkpoint, read_tensors, save_small, write_tensors
from zoo.errors import BadInput

SHOWN = "# x\n<!-- report: smoke table1-final-digits -->\n<!-- /report -->\n"


@pytest.fixture(scope="module")
def of_smoke(plain_pictures, tmp_path_factory):
    """Two cells of the suite `smoke`, trained and attacked."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        typed = ["run", "--suite", "smoke", "--models", "supervised,ladder", "--labels", "50", "--no-audit"]
        patch.setattr("sys.argv", ["benchmark", *typed, "--out", str(folder / "runs/smoke")])
        main()
    return folder


@pytest.fixture
def checkout(of_smoke, tmp_path, monkeypatch):
    """A checkout with the run and a README that shows a table of it."""
    shutil.copytree(of_smoke, tmp_path, dirs_exist_ok=True)
    (tmp_path / "README.md").write_text(SHOWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_records_reports_and_checkpoints_are_published(checkout, call):
    code, out, err = call("release", "--suite", "smoke")
    assert (code, err) == (0, [])
    assert [line.split(":")[0] for line in out] == ["supervised-50", "ladder-50"]
    for name in ("supervised-50", "ladder-50"):
        own, there = checkout / "runs/smoke/cells" / name, checkout / "published/smoke/cells" / name
        recorded = {*release.RECORDED} - {"examples.csv"}  # of which this suite has none
        assert {path.name for path in there.iterdir()} == recorded
        for file in recorded:
            assert (there / file).read_bytes() == (own / file).read_bytes()
    assert "| ladder " in (checkout / "README.md").read_text()
    assert call("report", "--published", "--check")[0] == 0


@pytest.mark.parametrize("model", ["supervised", "ladder"])
def test_a_small_checkpoint_is_the_encoder_with_rounded_weights(checkout, call, model, monkeypatch):
    monkeypatch.setattr(release, "MOST_POINTS", 2.0)  # an image of these digits is 0.2 points
    assert call("release", "--suite", "smoke")[0] == 0
    small, full = (zoo.load(run, model, labels=50, seed=0) for run in ("published", "runs/smoke"))
    have, of = small.state_dict(), full.state_dict()
    assert have.keys() == {name for name in of if name.startswith("encoder.")}
    for name, tensor in have.items():
        rounded = of[name].half().float() if name.startswith("encoder.weight.") else of[name]
        assert torch.equal(tensor, rounded), name
    x = zoo.load_dataset("digits").test_images
    torch.testing.assert_close(small(x), full(x), rtol=1e-2, atol=1e-2)
    assert not small.training
    assert small.card == full.card | {"stored": SMALL}
    files = [checkout / run / f"cells/{model}-50/seed-0.safetensors" for run in ("published", "runs/smoke")]
    assert files[0].stat().st_size < 0.7 * files[1].stat().st_size


@pytest.mark.parametrize("model", ["supervised", "ladder"])
def test_where_float16_changes_errors_a_finer_checkpoint_does_not(checkout, call, model, monkeypatch):
    full = zoo.load("runs/smoke", model, labels=50, seed=0)
    path = checkout / "finer.safetensors"
    save_small(path, full, finer=True)
    finer, of = load_checkpoint(path), full.state_dict()
    assert finer.card["stored"] == FINER
    for name, tensor in finer.state_dict().items():
        if not name.startswith("encoder.weight."):
            assert torch.equal(tensor, of[name]), name
        elif name == "encoder.weight.0":
            assert torch.equal(tensor, of[name].half().float())
        else:  # four bits of the remainder, of which float16 has at most half of its last place
            last = 2.0 ** (of[name].abs().clamp(2.0**-14).log2().floor() - 10)
            assert (tensor - of[name]).abs().le(last / 32 + 2.0**-23).all()
            assert (of[name].half().float() - of[name]).abs().gt(last / 4).any()
    given = iter([[0.5], [0.6], [0.5]] * 2)
    monkeypatch.setattr(release, "errors", lambda *of: next(given))
    assert all(line.endswith("within 0.00 points") for line in call("release", "--suite", "smoke")[1])
    published = zoo.load("published", model, labels=50, seed=0)
    assert all(torch.equal(tensor, published.state_dict()[name]) for name, tensor in finer.state_dict().items())


def test_what_rounding_would_change_is_not_published(checkout, call, monkeypatch):
    monkeypatch.setattr(release, "MOST_POINTS", -1.0)
    _, out, _ = call("release", "--suite", "smoke")
    assert all("no small checkpoint, its errors would differ by " in line for line in out)
    assert not list((checkout / "published/cells").rglob("*.safetensors"))


def test_the_change_is_the_largest_of_all_errors(checkout, call, monkeypatch):
    supervised = [[0.5, 0.25], [0.5, 0.2504], [0.5, 0.2503]]  # before, in float16, finer
    given = iter([*supervised, [0.5, 0.7811], [0.4999, 0.7809]])
    monkeypatch.setattr(release, "errors", lambda *of: next(given))
    _, out, _ = call("release", "--suite", "smoke")
    assert out == [
        "supervised-50: records, not audited; no small checkpoint, its errors would differ by 0.03 points",
        "ladder-50: records, not audited, a small checkpoint with errors within 0.02 points",
    ]


def test_a_cell_that_lacks_a_seed_is_left_out(checkout, call):
    (checkout / "runs/smoke/cells/ladder-50/seed-1.safetensors").unlink()
    assert "ladder-50: not complete, left out" in call("release", "--suite", "smoke")[1]
    assert not (checkout / "published/smoke/cells/ladder-50").exists()


def test_an_audit_that_is_published_is_not_lost(checkout, call, monkeypatch):
    """What is published is audited, the run's cell is not; nor has it examples any more."""
    monkeypatch.setattr(release, "MOST_POINTS", 2.0)
    there = checkout / "published/smoke/cells"
    assert call("release", "--suite", "smoke")[0] == 0
    (there / "supervised-50/examples.csv").write_text("of earlier days")
    provenance = json.loads((there / "ladder-50/provenance.json").read_text())
    provenance["stages"].append(provenance["stages"][0] | {"stage": "audit"})
    (there / "ladder-50/provenance.json").write_text(json.dumps(provenance))
    before = files(there / "ladder-50")
    code, out, err = call("release", "--suite", "smoke")
    assert (code, err) == (0, [])
    assert out[1] == "ladder-50: not audited, as what is published is: left out"
    assert files(there / "ladder-50") == before
    assert not (there / "supervised-50/examples.csv").exists()


def test_wrong_input_is_one_line(checkout, call, monkeypatch):
    fails(call("release", "--suite", "own.toml"), "release --suite own.toml: expected a built-in suite")
    fails(call("release", "--suite", "quick"), "has no checkpoint of these cells")
    monkeypatch.setattr(release, "MOST_POINTS", 2.0)
    assert call("release", "--suite", "smoke")[0] == 0
    path = checkout / "published/cells/ladder-50/seed-0.safetensors"
    tensors, card = read_tensors(path)
    write_tensors(
        path,
        {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()},
        card,
    )
    with pytest.raises(BadInput, match=r"expected F16 \(64, 200\), got F32"):
        zoo.load("published", "ladder", labels=50, seed=0)
    with pytest.raises(BadInput, match="seeds there are 0"):
        zoo.load("published", "ladder", labels=50, seed=3)


def test_a_checkpoint_under_anothers_name_is_not_loaded(checkout):
    cells = checkout / "runs/smoke/cells"
    shutil.copy(cells / "ladder-50/seed-1.safetensors", cells / "ladder-50/seed-0.safetensors")
    with pytest.raises(BadInput, match="is of another model: ladder, 50 labels, seed 1"):
        zoo.load("runs/smoke", "ladder", labels=50, seed=0)
    assert zoo.load("runs/smoke", "ladder", labels=50, seed=1).card["seed"] == 1
    shutil.copy(cells / "supervised-50/seed-1.safetensors", cells / "ladder-50/seed-1.safetensors")
    with pytest.raises(BadInput, match="is of another model: supervised, 50 labels, seed 1"):
        zoo.load("runs/smoke", "ladder", labels=50, seed=1)
    shutil.copytree(cells / "supervised-50", cells / "supervised-100", dirs_exist_ok=True)
    with pytest.raises(BadInput, match="is of another model: supervised, 50 labels, seed 0"):
        zoo.load("runs/smoke", "supervised", labels=100, seed=0)


def test_a_small_checkpoint_of_another_suite_stays(checkout, call, monkeypatch):
    monkeypatch.setattr(release, "MOST_POINTS", 2.0)
    assert call("release", "--suite", "smoke")[0] == 0
    path = checkout / "published/cells/ladder-50/seed-0.safetensors"
    tensors, card = read_tensors(path)
    write_tensors(path, tensors, card | {"fingerprint": "of another suite"})
    before = path.read_bytes()
    code, out, err = call("release", "--suite", "smoke")
    assert (code, err) == (0, [])
    said = "no small checkpoint: published/cells/ladder-50/seed-0.safetensors is of another suite"
    assert out[1].startswith(f"ladder-50: records, not audited; {said}")
    monkeypatch.setattr(release, "MOST_POINTS", -1.0)
    assert call("release", "--suite", "smoke")[0] == 0
    assert path.read_bytes() == before
    assert not (checkout / "published/cells/supervised-50/seed-0.safetensors").exists(), "it is of this very suite"


def test_nothing_to_release_is_one_line(checkout, call):
    for name in ("ladder", "supervised"):
        (checkout / f"runs/smoke/cells/{name}-50/seed-1.safetensors").unlink()
    fails(call("release", "--suite", "smoke"), "runs/smoke has no complete cell to release")
    (checkout / "README.md").unlink()
    fails(call("release", "--suite", "smoke"), "README.md is missing: release is for the project's own checkout")


def test_a_tuning_alone_is_released(checkout, call):
    (checkout / "README.md").write_text("# x\n")
    folder = checkout / "runs/vat-figures/tuning"
    folder.mkdir(parents=True)
    row = "mnist,vat,60000,2.0,1.0,1,400,0,validation_error,0.02,10000"
    (folder / "tuning.csv").write_text(",".join(TUNING) + f"\n{row}\n")
    code, _, err = call("release", "--suite", "vat-figures")
    assert (code, err) == (0, [])
    assert row in (checkout / "published/vat-figures/tuning/tuning.csv").read_text()
