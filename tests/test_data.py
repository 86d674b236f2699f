"""Data sets read as their files say, left untouched, refused when unsound; labelled subsets of a seed."""

import gzip
import hashlib
import shutil
import struct
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import zoo
from zoo import data
from zoo.data import FILES, labelled_subset, load_dataset, subset_hash

MNIST_TRAINING_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ------------------------------------------------------------------------------------------ labelled subsets


@pytest.mark.parametrize("count", [10, 50, 100, 1000])
def test_subset_is_class_balanced_sorted_and_distinct(count):
    targets = torch.from_numpy(np.random.default_rng(0).integers(0, 10, 3000))
    chosen = labelled_subset(targets, count, 10, seed=8340)
    assert Counter(targets[chosen].tolist()) == dict.fromkeys(range(10), count // 10)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert chosen.dtype == torch.int64


def test_subset_comes_from_the_seed_alone():
    targets = torch.arange(2000) % 10
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (the global state must not matter)
    first = labelled_subset(targets, 100, 10, seed=7)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(first, labelled_subset(targets, 100, 10, seed=7))
    others = {tuple(labelled_subset(targets, 100, 10, seed=s).tolist()) for s in range(20)}
    assert len(others) == 20


def test_every_image_can_be_chosen_and_all_are_when_all_are_asked_for():
    targets = torch.arange(60) % 10
    assert torch.equal(labelled_subset(targets, 60, 10, seed=3), torch.arange(60))
    reached = {i for seed in range(60) for i in labelled_subset(targets, 10, 10, seed).tolist()}
    assert reached == set(range(60))


def test_subset_hash_is_sha256_of_the_sorted_indices():
    wanted = hashlib.sha256(struct.pack("<4q", 1, 2, 30, 400)).hexdigest()[:12]
    assert subset_hash(torch.tensor([30, 1, 400, 2])) == wanted
    assert subset_hash(torch.tensor([30, 1, 400, 3])) != wanted


@pytest.mark.parametrize("count", [0, -10, 55, 5, 210, 1000])
def test_impossible_subsets_are_refused(count):
    with pytest.raises(zoo.BadInput, match=f"^labels = {count}: .*$") as error:
        labelled_subset(torch.arange(200) % 10, count, 10, seed=0)
    assert "\n" not in str(error.value)


def test_the_class_that_is_too_small_is_named():
    targets = torch.cat([torch.arange(90) % 9, torch.tensor([9, 9])])
    with pytest.raises(zoo.BadInput, match="class 9 has only 2 training images, 3 asked for"):
        labelled_subset(targets, 30, 10, seed=0)


# ---------------------------------------------------------------------------------------------------- digits


def test_digits_are_scikit_learns_split_in_two():
    found = load_dataset("digits")
    assert found.images.shape == (1297, 64)
    assert found.test_images.shape == (500, 64)
    assert found.images.dtype == found.test_images.dtype == torch.float32
    assert found.labels.dtype == found.test_labels.dtype == torch.int64
    assert found.classes == 10
    pixels, targets = load_digits(return_X_y=True)
    wanted = Counter(zip(map(bytes, pixels.astype(np.uint8)), targets.tolist(), strict=True))
    images = (torch.cat([found.images, found.test_images]) * 16).numpy()
    labels = torch.cat([found.labels, found.test_labels]).tolist()
    assert np.array_equal(images, images.round())  # sixteenths, exactly
    assert Counter(zip(map(bytes, images.astype(np.uint8)), labels, strict=True)) == wanted


def test_digits_lie_in_the_unit_interval_and_no_image_is_in_both_parts():
    found = load_dataset("digits")
    assert found.images.min() == found.test_images.min() == 0
    assert found.images.max() == found.test_images.max() == 1
    training, test = ({bytes(image) for image in part.numpy()} for part in (found.images, found.test_images))
    assert len(training) == 1297  # scikit-learn's digits are all distinct, so the multiset test implies disjointness
    assert not training & test


def test_digits_checksum_is_of_the_content():
    found = load_dataset("digits")
    images = np.concatenate([found.images.numpy(), found.test_images.numpy()])
    labels = np.concatenate([found.labels.numpy(), found.test_labels.numpy()])
    assert found.checksums == {"digits": hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()}


# ------------------------------------------------------------------------------------------------- IDX files


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A small MNIST in torchvision's layout: its folder and the arrays that were packed, byte by byte."""
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (count, 28, 28)) for count in (7, 4)]
    labels = [random.integers(0, 10, count) for count in (7, 4)]
    packed = []
    for images, targets in zip(arrays, labels, strict=True):
        count = len(images)
        packed.append(struct.pack(f">4B3I{784 * count}B", 0, 0, 8, 3, count, 28, 28, *images.ravel().tolist()))
        packed.append(struct.pack(f">4BI{count}B", 0, 0, 8, 1, count, *targets.tolist()))
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    checksums = []
    for file, content in zip(FILES, packed, strict=True):
        compressed = gzip.compress(content)
        (folder / file).write_bytes(compressed)
        checksums.append(hashlib.md5(compressed, usedforsecurity=False).hexdigest())
    monkeypatch.setitem(data.CHECKSUMS, "mnist", tuple(checksums))
    return folder, arrays, labels


@pytest.mark.parametrize("by_environment", [False, True])
def test_idx_files_are_read_as_packed(files, tmp_path, monkeypatch, by_environment):
    _, arrays, labels = files
    if by_environment:
        monkeypatch.setenv("BENCHMARK_DATA", str(tmp_path))
    found = load_dataset("mnist") if by_environment else load_dataset("mnist", tmp_path)
    for images, array in zip((found.images, found.test_images), arrays, strict=True):
        assert images.dtype == torch.float32
        np.testing.assert_allclose(images.numpy(), array.reshape(-1, 784) / 255, rtol=1e-7, atol=0)
    assert found.labels.tolist() == labels[0].tolist()
    assert found.test_labels.tolist() == labels[1].tolist()
    assert found.checksums == dict(zip(FILES, data.CHECKSUMS["mnist"], strict=True))


def test_files_are_only_read(files, tmp_path):
    folder, _, _ = files

    def look():
        return {p: (p.is_file() and p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*")}

    before = look()
    for path in (*folder.iterdir(), folder, tmp_path / "MNIST"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        load_dataset("mnist", tmp_path)
        assert look() == before
    finally:
        for path in (tmp_path / "MNIST", folder):
            path.chmod(0o755)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["altered", "truncated", "empty", "missing"])
def test_unsound_files_are_named_in_one_line(files, tmp_path, file, damage):
    path = files[0] / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        altered = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes({"altered": altered, "truncated": content[:-1], "empty": b""}[damage])
    with pytest.raises(zoo.BadInput) as error:
        load_dataset("mnist", tmp_path)
    assert str(path) in str(error.value)
    assert ("missing" if damage == "missing" else "truncated or altered") in str(error.value)
    assert "\n" not in str(error.value)


def test_only_the_cache_is_ever_downloaded_to(files, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "download", asked.append)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCHMARK_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(zoo.BadInput, match="elsewhere"):
        load_dataset("mnist")
    assert asked == []
    monkeypatch.delenv("BENCHMARK_DATA")
    with pytest.raises(zoo.BadInput, match="cache"):  # still missing: the stand-in fetched nothing
        load_dataset("mnist")
    assert asked == ["mnist"]


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("BENCHMARK_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(zoo.BadInput, match=r"Could not determine home directory.*--data"):
        load_dataset("mnist")


def test_an_unknown_data_set_is_told_the_nearest():
    with pytest.raises(zoo.BadInput, match="unknown data set 'mnits': did you mean 'mnist'"):
        load_dataset("mnits")


# ----------------------------------------------------------------------------------------------------- MNIST


@pytest.mark.mnist
def test_mnist_is_mnist(mnist):
    found = mnist
    assert found.images.shape == (60000, 784)
    assert found.test_images.shape == (10000, 784)
    assert found.labels.bincount().tolist() == MNIST_TRAINING_COUNTS
    assert found.test_labels.bincount().tolist() == MNIST_TEST_COUNTS
    for images in (found.images, found.test_images):
        assert images.dtype == torch.float32
        assert images.min() == 0
        assert images.max() == 1
    pixels = found.images.double()
    assert abs(pixels.mean().item() - 0.1307) < 5e-5  # the mean and sd that every MNIST script prints
    assert abs(pixels.std().item() - 0.3081) < 5e-5


@pytest.mark.parametrize("name", ["moons", "digits"])
def test_the_number_of_test_images_is_known_without_them(name):
    assert len(load_dataset(name).test_images) == data.TEST_IMAGES[name]


def test_mnist_has_as_many_test_images_as_are_named(mnist):
    assert {len(mnist.test_images)} == {data.TEST_IMAGES[name] for name in data.CHECKSUMS}


def test_what_torchvision_fetches_is_read(files, tmp_path, monkeypatch):
    """A stand-in for torchvision, whose sources are not to be reached here: it copies the files it is asked for."""
    folder, _, labels = files

    class MNIST:
        def __init__(self, root, download):
            assert download
            shutil.copytree(folder, Path(root) / "MNIST" / "raw")

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(MNIST=MNIST)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    assert load_dataset("mnist").labels.tolist() == labels[0].tolist()
