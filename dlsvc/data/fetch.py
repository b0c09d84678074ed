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
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from dlsvc.data.catalog import Package
from dlsvc.data.progress import Say, Tenths, silent
from dlsvc.errors import DataError

_TIMEOUT_S = 900
_POLL_S = 0.5
_CLIENTS = {"apt": "apt-get", "npm": "npm", "pip": "pip"}


def fetch(package: Package, home: Path, say: Say = silent) -> Path:
    """The package's file, or the folder that holds it installed. Downloads it when it isn't there yet.

    Raises DataError when the client is missing, the download fails or the digest is another.
    """
    if package.kind == "pip" and (installed := _installed(package)):
        return installed
    downloads = home / "data" / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    with locked(downloads / f"{package.filename}.lock"):
        # A version that isn't pinned: the newest that came before.
        path = max(downloads.glob(package.filename), key=lambda found: found.stat().st_mtime, default=None)
        path = path or _download(package, downloads, say)
        verify(package, path)
    return path


def verify(package: Package, path: Path) -> None:
    """Refuse a file whose digest isn't the pinned one, and remove it."""
    if not package.sha256:
        return
    if (found := digest(path)) != package.sha256:
        path.unlink()
        raise DataError(
            f"{path.name} has sha256 {found}, not the pinned {package.sha256}: the file was removed; "
            "pull again, and if that repeats, don't trust its origin"
        )


def digest(path: Path) -> str:
    """The file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time; the lock goes with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _installed(package: Package) -> Path | None:
    """Where a pip package with the very files that are wanted is installed, found without importing it."""
    for module in {name.split("/")[0] for name in package.members}:
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            return None
        root = Path(next(iter(spec.submodule_search_locations))).parent
        if all((root / name).is_file() and digest(root / name) == known for name, known in package.members.items()):
            return root
    return None


def _download(package: Package, downloads: Path, say: Say) -> Path:
    client = _CLIENTS[package.kind]
    if package.kind != "pip" and shutil.which(client) is None:
        raise DataError(
            f"{package.name} comes by {client}, which isn't installed here; install {client}, or "
            + _by_hand(package, downloads)
        )
    say(f"{client}: {package}" + (f" ({package.nbytes / 1e6:.0f} MB)" if package.nbytes else ""))
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=downloads) as folder:
        _run_client(package, Path(folder), say)
        files = [file for file in Path(folder).iterdir() if file.suffix in (".deb", ".tgz", ".whl")]
        if len(files) != 1:
            raise DataError(f"{client} left {len(files)} files for {package}, not one")
        path = downloads / (package.filename if package.pinned else files[0].name)
        os.replace(files[0], path)
    return path


def _by_hand(package: Package, downloads: Path) -> str:
    """What to do when the client can't."""
    pinned = f" (sha256 {package.sha256})" if package.sha256 else ""
    command = " ".join(_command(package)).replace(sys.executable, "python")
    return (
        f"run `{command}` on a machine that can and put its file, as {package.filename}{pinned}, into {downloads} here"
    )


def _command(package: Package) -> list[str]:
    if package.kind == "npm":
        return ["npm", "pack", f"{package.name}@{package.version}"]
    if package.kind == "pip":
        return [sys.executable, "-m", "pip", "download", "--no-deps", f"{package.name}=={package.version}"]
    return ["apt-get", "download", f"{package.name}={package.version}" if package.pinned else package.name]


def _run_client(package: Package, folder: Path, say: Say) -> None:
    command = _command(package)
    if package.kind == "npm":
        # npm's own patience without a network is over a minute. Its cache would keep every picture twice.
        patience = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=3000"]
        _run([*command, "--loglevel=error", "--cache=.npm", *patience], folder, package, say)
    elif package.kind == "pip":
        _run([*command, "--quiet", "--no-cache-dir", "--only-binary=:all:", "--dest=."], folder, package, say)
    else:
        try:
            _run([*command, "--quiet"], folder, package, say)
        except DataError:
            # A fresh container has no package lists; only root may fetch them.
            if os.geteuid() != 0:
                raise
            say("apt-get: no package lists that have it, so apt-get update first")
            _run(["apt-get", "update", "--quiet"], folder, package, silent)
            _run([*command, "--quiet"], folder, package, say)


def _run(command: list[str], folder: Path, package: Package, say: Say) -> None:
    """Runs a client in a folder, and says how much of the package has come into it."""
    tenths = Tenths(f"{command[0]}: {package}".replace(sys.executable, "pip"), package.nbytes, say)
    with (folder / ".said").open("w+b") as said:
        code = _watched(command, folder, said, tenths)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip()[-1500:] or f"exit code {code}"
    if code:
        raise DataError(
            f"can't download {package} by `{' '.join(command)}`; is the network there, and the registry reachable, and "
            f"does it still have this version? Or {_by_hand(package, folder.parent)}\n{lines}"
        )


def _watched(command: list[str], folder: Path, said: IO[bytes], tenths: Tenths) -> int:
    """The client's exit code; its temporary files go into the folder too, so that they are seen and removed."""
    environment = os.environ | {"TMPDIR": str(folder)}
    deadline = time.monotonic() + _TIMEOUT_S
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
    ) as running:
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return running.wait(_POLL_S)
                here = _bytes_in(folder)
                tenths.reach(here, f"{here / 1e6:.0f} of {tenths.total / 1e6:.0f} MB")
        finally:
            running.kill()
    raise DataError(f"{tenths.title} took more than {_TIMEOUT_S} s: is the network there?")


def _bytes_in(folder: Path) -> int:
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # renamed or removed meanwhile
                found += os.lstat(os.path.join(parent, name)).st_size
    return found


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
            name = member.name.removeprefix("./")
            file = archive.extractfile(member) if member.isfile() and wanted(name) else None
            if file is not None:
                yield name, file.read()


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
