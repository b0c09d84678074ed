"""Pulling published packages with their registries' own clients; a digest that differs is refused."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from dlsvc.data.catalog import Package
from dlsvc.errors import DataError

Say = Callable[[str], None]

_TIMEOUT_S = 900
_CLIENTS = {"apt": "apt-get", "npm": "npm", "pip": "pip"}


def silent(text: str) -> None:
    """Says nothing."""


def fetch(package: Package, home: Path, say: Say = silent) -> Path:
    """The package's file, or the folder that holds it installed. Downloads it when it isn't there yet.

    Raises DataError when the client is missing, the download fails or the digest is another.
    """
    if package.kind == "pip" and (installed := _installed(package)):
        return installed
    downloads = home / "data" / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    path = downloads / package.filename
    with locked(path.with_name(path.name + ".lock")):
        if not path.exists():
            _download(package, path, say)
        verify(package, path)
    return path


def verify(package: Package, path: Path) -> None:
    """Refuse a file whose digest isn't the pinned one, and remove it."""
    if not package.sha256:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        path.unlink()
        raise DataError(
            f"{path.name} has sha256 {digest}, not the pinned {package.sha256}: the file was removed; "
            "pull again, and if that repeats, don't trust its origin"
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time; the lock goes with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _installed(package: Package) -> Path | None:
    """Where a pip package with the wanted files is installed, found without importing it."""
    modules = {name.split("/")[0] for name in package.members}
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            return None
        root = Path(next(iter(spec.submodule_search_locations))).parent
        if all((root / name).is_file() for name in package.members):
            return root
    return None


def _download(package: Package, path: Path, say: Say) -> None:
    client = _CLIENTS[package.kind]
    if package.kind != "pip" and shutil.which(client) is None:
        raise DataError(
            f"{package.name} comes by {client}, which isn't installed here; install {client}, or put the file "
            f"{path.name} (sha256 {package.sha256}) into {path.parent} yourself"
        )
    size = f" ({package.nbytes / 1e6:.0f} MB)" if package.nbytes else ""
    say(f"{client}: {package.name} {package.version}{size}")
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=path.parent) as folder:
        _run_client(package, Path(folder), say)
        files = [file for file in Path(folder).iterdir() if file.suffix in (".deb", ".tgz", ".whl")]
        if len(files) != 1:
            raise DataError(f"{client} left {len(files)} files for {package.name} {package.version}, not one")
        os.replace(files[0], path)


def _run_client(package: Package, folder: Path, say: Say) -> None:
    pinned = f"{package.name}={package.version}"
    if package.kind == "npm":
        # npm's own patience without a network is over a minute.
        patience = [
            "--loglevel=error",
            "--fetch-retries=2",
            "--fetch-retry-mintimeout=1000",
            "--fetch-retry-maxtimeout=3000",
        ]
        _run(["npm", "pack", *patience, f"{package.name}@{package.version}"], folder, package)
    elif package.kind == "pip":
        wanted = [f"{package.name}=={package.version}", "--dest", "."]
        _run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *wanted],
            folder,
            package,
        )
    else:
        try:
            _run(["apt-get", "download", "--quiet", pinned], folder, package)
        except DataError:
            # A fresh container has no package lists; only root may fetch them.
            if os.geteuid() != 0:
                raise
            say("apt-get: no package lists that have it, so apt-get update first")
            _run(["apt-get", "update", "--quiet"], folder, package)
            _run(["apt-get", "download", "--quiet", pinned], folder, package)


def _run(command: list[str], folder: Path, package: Package) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{command[0]} took more than {_TIMEOUT_S} s for {package.name}: is the network there?"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[:1500] or f"exit code {done.returncode}"
        raise DataError(
            f"can't download {package.name} {package.version} by `{' '.join(command)}`; "
            f"is the network there, and the registry reachable?\n{said}"
        )


def members(package: Package, path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the wanted files of a fetched package, read without unpacking it to disk.

    Raises DataError for a file whose digest isn't the pinned one, and for an archive that can't be read.
    """
    readers: dict[str, Callable[[Path, Callable[[str], bool]], Iterator[tuple[str, bytes]]]]
    readers = {".whl": _zip_members, ".tgz": _tar_members, ".deb": _deb_members}
    reader = _installed_members(package) if path.is_dir() else readers[path.suffix]
    try:
        for name, content in reader(path, wanted):
            expected = package.members.get(name)
            if expected and hashlib.sha256(content).hexdigest() != expected:
                raise DataError(
                    f"{name} of {package.name} isn't the known file (sha256 {expected}) that the data set is"
                )
            yield name, content
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataError(f"can't read {path}: {error}") from error


def _installed_members(package: Package) -> Callable[[Path, Callable[[str], bool]], Iterator[tuple[str, bytes]]]:
    def read(root: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        for name in filter(wanted, package.members):
            yield name, (root / name).read_bytes()

    return read


def _zip_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in filter(wanted, archive.namelist()):
            yield name, archive.read(name)


def _tar_members(source: Path | IO[bytes], wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    where: dict[str, Any] = {"name": source} if isinstance(source, Path) else {"fileobj": source}
    with tarfile.open(**where) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and wanted(member.name) else None
            if file is not None:
                yield member.name.removeprefix("./"), file.read()


def _deb_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """A .deb is an `ar` archive: headers of 60 bytes, contents padded to even lengths; `data.tar.*` holds the files."""
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise tarfile.ReadError("not a Debian package")
        while header := file.read(60):
            name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                yield from _tar_members(io.BytesIO(file.read(size)), wanted)
                return
            file.seek(size + size % 2, os.SEEK_CUR)
    raise tarfile.ReadError("no data.tar in the package")
