"""Data sets as tensors, and the labelled subset of a seed."""

import gzip
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.errors import BadInput, unknown

# MD5 of the files as their authors publish them and torchvision checks them, in the order of FILES.
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
CHECKSUMS = {
    "mnist": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "kmnist": (
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
}
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
DATASETS = ("moons", "digits", *CHECKSUMS)
INPUTS = {"moons": 2, "digits": 64} | dict.fromkeys(CHECKSUMS, 784)
TEST_IMAGES = {"moons": 1000, "digits": 500} | dict.fromkeys(CHECKSUMS, 10_000)
CLASSES = {"moons": 2, "digits": 10} | dict.fromkeys(CHECKSUMS, 10)


@dataclass(frozen=True)
class Dataset:
    """Images (N, inputs) float32 in [0, 1] and labels (N,) int64, training and test."""

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    checksums: dict[str, str]  # file -> MD5, or what was hashed -> SHA-256

    def to(self, device: torch.device) -> "Dataset":
        """The same data on another device."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )


def load_dataset(name: str, root: str | Path | None = None) -> Dataset:
    """A data set by name. Files are looked for in `root`, else $BENCHMARK_DATA, else ~/.cache (downloaded there).

    `root` holds torchvision's folders (`MNIST/raw/*.gz`); it is only ever read. Raises BadInput for an unknown name
    and for a file that is missing, truncated or altered.
    """
    if name in MADE:
        return MADE[name]()
    if name not in CHECKSUMS:
        raise unknown("data set", name, DATASETS)
    given = root or os.environ.get("BENCHMARK_DATA")
    folder = (Path(given) if given else cache()) / TORCHVISION[name] / "raw"
    if not given and not all((folder / file).is_file() for file in FILES):
        download(name)
    raw = [read_checked(folder / file, md5) for file, md5 in zip(FILES, CHECKSUMS[name], strict=True)]
    images, labels, test_images, test_labels = (parse_idx(content) for content in raw)
    return Dataset(
        name,
        scale(images),
        torch.from_numpy(labels.astype(np.int64)),
        scale(test_images),
        torch.from_numpy(test_labels.astype(np.int64)),
        classes=CLASSES[name],
        checksums=dict(zip(FILES, CHECKSUMS[name], strict=True)),
    )


def cache() -> Path:
    """Where downloads go: $XDG_CACHE_HOME or ~/.cache. Raises BadInput for a user without a home."""
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise BadInput(f"no folder for downloads ({error}): give the folder that holds the data with --data") from error
    return caches / "virtual-adversarial-ladder-benchmark"


def download(name: str) -> None:
    """Fetch a data set's files into the cache with torchvision. Raises BadInput where either cannot be had."""
    try:
        from torchvision import datasets  # only here: it fails to import beside a torch of another build
    except (ImportError, OSError, RuntimeError) as error:
        raise BadInput(
            f"torchvision, which fetches {name}, does not load ({error}): install the one made for torch "
            f"{torch.__version__}, or give the folder that holds {name} with --data"
        ) from error
    try:
        getattr(datasets, TORCHVISION[name])(str(cache()), download=True)
    except (OSError, RuntimeError) as error:
        raise BadInput(
            f"{name} could not be downloaded ({error}): give the folder that holds it with --data"
        ) from error


def read_checked(path: Path, md5: str) -> bytes:
    """A gzip file's content, after its MD5 has been compared."""
    if not path.is_file():
        raise BadInput(f"{path} is missing: --data (or $BENCHMARK_DATA) must hold torchvision's layout")
    packed = path.read_bytes()
    found = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    if found != md5:
        raise BadInput(f"{path} is truncated or altered: expected MD5 {md5}, got {found}; fetch it anew")
    return gzip.decompress(packed)


def parse_idx(content: bytes) -> np.ndarray:
    """An IDX file of unsigned bytes: two zero bytes, type 8, the rank, big-endian sizes, data."""
    rank = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)


def scale(images: np.ndarray) -> Tensor:
    """Bytes (N, rows, columns) -> float32 (N, rows * columns) in [0, 1]."""
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / np.float32(255))


def digits() -> Dataset:
    """scikit-learn's 1,797 digits of 8 x 8 pixels: 1,297 for training, 500 for test, one fixed shuffle."""
    from sklearn.datasets import load_digits

    pixels, targets = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(pixels))  # a stream that NumPy has promised to keep
    images = torch.from_numpy((pixels[order] / 16).astype(np.float32))
    labels = torch.from_numpy(targets[order].astype(np.int64))
    return made("digits", images, labels, 1297)


def moons() -> Dataset:
    """Two interleaved half circles, a class each, in the unit square: 1,000 points for training, 1,000 for test.

    Radius 0.25, Gaussian noise of sd 0.0125; for the demonstration of the VAT paper's Figure 1, whose own points are
    not published.
    """
    random, each = np.random.RandomState(0), 1000
    labels = np.arange(2 * each) % 2
    angle = random.uniform(0, np.pi, 2 * each)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.where(labels[:, None] == 0, upper, (1.0, 0.5) - upper) + random.normal(0, 0.05, (2 * each, 2))
    images = torch.from_numpy((np.add(points, (1.5, 1.75)) / 4).astype(np.float32))
    return made("moons", images, torch.from_numpy(labels.astype(np.int64)), each)


def made(name: str, images: Tensor, labels: Tensor, training: int) -> Dataset:
    """Data that need no file: the first so many for training, the rest for test."""
    checksum = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    parts = images[:training], labels[:training], images[training:], labels[training:]
    return Dataset(name, *parts, CLASSES[name], {name: checksum})


MADE = {"moons": moons, "digits": digits}


def labelled_subset(labels: Tensor, count: int, classes: int, seed: int) -> Tensor:
    """Indices (count,) of a class-balanced subset, from the seed alone; of all, where `count` is all.

    Raises BadInput if there is none.
    """
    if count == len(labels) > 0:
        return torch.arange(count)
    if count <= 0 or count % classes:
        raise BadInput(f"labels = {count}: expected a positive multiple of the {classes} classes")
    random, each, targets = np.random.RandomState(seed), count // classes, labels.cpu().numpy()
    chosen = []
    for label in range(classes):
        members = np.flatnonzero(targets == label)
        if each > len(members):
            raise BadInput(f"labels = {count}: class {label} has only {len(members)} training images, {each} asked for")
        chosen.append(random.permutation(members)[:each])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def held_out(images: int, count: int) -> tuple[Tensor, Tensor]:
    """Sorted indices of the images to train on and of `count` for validation: one fixed shuffle, whatever the seed."""
    order = torch.from_numpy(np.random.RandomState(0).permutation(images))
    return order[count:].sort().values, order[:count].sort().values


def divided(data: Dataset, labels: int, validation: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of images: what is trained on, of that each seed's with labels, (seeds, labels), and what is held out.

    On the CPU. Raises BadInput as `labelled_subset`.
    """
    pool, held = held_out(len(data.images), validation)
    known = data.labels.cpu()[pool]
    return pool, torch.stack([pool[labelled_subset(known, labels, data.classes, seed)] for seed in seeds]), held


def subset_hash(indices: Tensor) -> str:
    """SHA-256 (12 hex digits) of a labelled subset's sorted indices as little-endian 64-bit integers."""
    return hashlib.sha256(np.sort(indices.numpy()).astype("<i8").tobytes()).hexdigest()[:12]
