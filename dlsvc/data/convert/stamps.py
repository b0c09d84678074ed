"""Tux Paint's stamps: a transparent picture with a sentence, in a folder that names its category."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from dlsvc.data.convert.rows import Read

_ROOT = "usr/share/tuxpaint/stamps/"


@dataclass(frozen=True)
class Stamp:
    path: str
    picture: bytes
    caption: str

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def category(self) -> str:
        return self.path.split("/", 1)[0]

    @property
    def is_cartoon(self) -> bool:
        return "/cartoon/" in self.path


def stamps(read: Read) -> Iterator[Stamp]:
    """The captioned pictures, in the order of their paths; folders of letters and signs under `symbols/` left out."""
    wanted = read("tuxpaint-stamps-default", lambda name: name.endswith((".png", ".txt")))
    files = {name.removeprefix(_ROOT): content for name, content in wanted}
    for path, picture in sorted(files.items()):
        text = files.get(path.removesuffix(".png") + ".txt")
        if path.endswith(".png") and text is not None and "symbols" not in PurePosixPath(path).parts[:-2]:
            # The first line is English; translations follow, `fr.utf8=...`.
            yield Stamp(path, picture, text.decode("utf8", "replace").split("\n", 1)[0].strip())
