"""What is known of a data set before it is pulled, and of the packages that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Modality = Literal[
    "image",
    "tabular",
    "image-text",
    "segmentation",
    "text",
    "translation",
    "audio",
    "video",
    "series",
    "vqa",
    "conversation",
]

# A package's version, where the registry keeps none but its newest.
AS_OFFERED = "*"

# The split of the training samples that `data.limit` leaves out.
LEFT_OUT = "left-out"


@dataclass(frozen=True)
class Package:
    """A published package that a data set comes from.

    `sha256` pins the file that is downloaded; `members` pins files inside, for packages that differ by platform. A
    package that security updates replace can't be pinned: its version is `AS_OFFERED`, the client checks the
    registry's signature, and what came is written into the data set's meta.json.
    """

    kind: Literal["apt", "npm", "pip"]
    name: str
    version: str
    sha256: str = ""
    nbytes: int = 0
    members: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        return self.version != AS_OFFERED

    @property
    def filename(self) -> str:
        """The name that the registry's client gives the file; a pattern of it where the version isn't pinned."""
        if self.kind == "pip":
            return f"{self.name}-{self.version}.whl"
        if self.kind == "apt":
            return f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.pinned else f"{self.name} in the version on offer"


@dataclass(frozen=True)
class CatalogEntry:
    """A data set, or files that are pulled and not converted: with `kind="weights"` those of a trained model, with
    "lists" what words are measured by.

    `counts` are exact, unless a package is taken in the version on offer. `mean` and `std` are per channel, of pixels
    in [0, 1]. `features` name the columns of a table, or the channels of a series. `length` is the number of steps of
    a series or frames of a video, `sample_rate` is in Hz.
    """

    name: str
    title: str
    licence: str
    attribution: str
    version: str
    modality: Modality = "image"
    kind: Literal["data", "weights", "lists"] = "data"
    classes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    split_rule: str = ""
    packages: tuple[Package, ...] = ()
    image_size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    length: int | None = None
    sample_rate: int | None = None

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def download_bytes(self) -> int:
        return sum(package.nbytes for package in self.packages)

    @property
    def pinned(self) -> bool:
        """Whether every machine gets the same rows."""
        return all(package.pinned for package in self.packages)
