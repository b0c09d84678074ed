"""Where data lies: a path of this machine, or a uri of any filesystem that pyarrow or else fsspec knows.

`locate("s3://bucket/pictures")` gives a `Location`, which is used as a `pathlib.Path` is. Credentials come from where
the filesystem's own tools look for them; what a uri says beside its path (`?endpoint_override=...`, a user) is left out
of names and messages.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from dlsvc.errors import DataError, NotFound


@dataclass(frozen=True)
class FileFacts:
    """A file below a folder: its name from there, with /, and what changes when it does. A dead link has size -1."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Location:
    """A place of a filesystem; of this machine's when there is no scheme."""

    path: str
    scheme: str = ""
    filesystem: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}" if self.scheme else self.path

    def __truediv__(self, name: str) -> Location:
        return Location(str(PurePosixPath(self.path) / name), self.scheme, self.filesystem)

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix.lower()

    @property
    def parent(self) -> Location:
        return Location(str(PurePosixPath(self.path).parent), self.scheme, self.filesystem)

    @property
    def is_local(self) -> bool:
        return not self.scheme

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "folder"

    def exists(self) -> bool:
        return self._kind() != ""

    def _kind(self) -> str:
        if self.is_local:
            return "file" if os.path.isfile(self.path) else "folder" if os.path.isdir(self.path) else ""
        kinds = {fs.FileType.File: "file", fs.FileType.Directory: "folder"}
        return kinds.get(self._info().type, "")

    def _info(self) -> Any:
        try:
            return self.filesystem.get_file_info(self.path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"can't reach {self}: {_short(error)}") from error

    def facts(self) -> FileFacts:
        """Of this file. Raises DataError when it isn't there."""
        if self.is_local:
            return _local_facts(self.name, self.path)
        info = self._info()
        if info.type != fs.FileType.File:
            raise DataError(f"no file {self}")
        return FileFacts(self.name, info.size, info.mtime_ns or 0)

    def files(self) -> list[FileFacts]:
        """Every file below this folder, by name, but hidden ones. Raises DataError when a folder can't be read."""
        if self.is_local:
            found = [_local_facts(name, os.path.join(self.path, name)) for name in _walk(self)]
        else:
            found = self._listed()
        return sorted(found, key=lambda file: file.name)

    def _listed(self) -> list[FileFacts]:
        try:
            infos = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"can't list {self}: {_short(error)}") from error
        start = len(self.path.rstrip("/")) + 1
        files = [(info.path[start:], info) for info in infos if info.type == fs.FileType.File]
        return [FileFacts(name, info.size, info.mtime_ns or 0) for name, info in files if not _is_hidden(name)]

    def read_bytes(self) -> bytes:
        """Raises OSError."""
        if self.is_local:
            with open(self.path, "rb") as file:
                return file.read()
        with self.open() as file:
            return bytes(file.read())

    def read_range(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`. Raises OSError, also when the file ends before."""
        with self.open() as file:
            file.seek(offset)
            data = bytes(file.read(size))
        if len(data) != size:
            raise OSError(f"it ends after byte {offset + len(data)}, before byte {offset + size}")
        return data

    def open(self) -> Any:
        """A binary file to read and to seek in. Raises OSError."""
        return open(self.path, "rb") if self.is_local else self.filesystem.open_input_file(self.path)


def locate(source: str | Path) -> Location:
    """The place that a path or a uri names. Raises DataError for a uri that no filesystem takes."""
    text = str(source)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme == "file":
        return Location(unquote(urlsplit(text).path))
    if not scheme:
        return Location(str(Path(text).expanduser().absolute()))
    filesystem, path = _connected(text)
    return Location(path.rstrip("/"), scheme, filesystem)


@functools.lru_cache(maxsize=16)
def _connected(uri: str) -> tuple[Any, str]:
    """The filesystem, which keeps its connections, and the path in it."""
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem" not in str(error):
            _refuse(uri, error)
        return _with_fsspec(uri)
    except (OSError, ValueError, pa.ArrowException) as error:
        _refuse(uri, error)
    return found


def _with_fsspec(uri: str) -> tuple[Any, str]:
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError, OSError) as error:
        _refuse(uri, error)
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def _refuse(uri: str, error: Exception) -> NoReturn:
    parts = urlsplit(uri)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    raise DataError(f"can't open {place}: {_short(error)}") from error


def find(source: str | Path) -> Location:
    """`locate`, for what must be there. Raises NotFound."""
    found = locate(source)
    if not found.exists():
        raise NotFound(f"no file or folder {found}")
    return found


def _walk(folder: Location, below: str = "") -> Iterator[str]:
    try:
        with os.scandir(os.path.join(folder.path, below)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"can't list {folder / below}: {error.strerror}") from error
    for entry in found:
        name = f"{below}/{entry.name}" if below else entry.name
        if _is_hidden(entry.name):
            continue
        # A link to a folder is followed no further than any other listing does: it may lead in a circle.
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, name)
        elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            yield name


def _local_facts(name: str, path: str) -> FileFacts:
    try:
        facts = os.stat(path)
    except OSError:
        # Whether it is missed is for the reader to say: a dead link among pictures is one bad sample.
        return FileFacts(name, -1, 0)
    return FileFacts(name, facts.st_size, facts.st_mtime_ns)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def reason(error: Exception) -> str:
    """Why a file can't be read, in a line."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else "") or _short(error)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
