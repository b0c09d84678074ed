"""Where users keep data: a disk, an S3 bucket (a server of our own stands in for it), any filesystem of fsspec."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Files = Mapping[str, bytes]
Put = Callable[[str, Files], str]

PLACES = ("disk", "s3", "fsspec")


def put_on_disk(root: Path) -> Put:
    def put(name: str, files: Files) -> str:
        for file, body in files.items():
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (root / name / file).write_bytes(body)
        return str(root / name)

    return put


def put_with_fsspec(root: Path) -> Put:
    """On a filesystem that pyarrow doesn't know by its scheme, and fsspec does."""
    on_disk = put_on_disk(root)
    return lambda name, files: f"local://{on_disk(name, files)}"


@contextmanager
def s3_server() -> Iterator[Put]:
    """A server in a process of its own, and the environment that every client of S3 looks at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    known = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in (*known, "AWS_ENDPOINT_URL")}
    os.environ.update(known, AWS_ENDPOINT_URL=url)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(url)
        _request(f"{url}/bucket", b"")
        yield lambda name, files: _put_in_s3(url, name, files)
    finally:
        server.terminate()
        server.wait()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _put_in_s3(url: str, name: str, files: Files) -> str:
    for file, body in files.items():
        _request(f"{url}/bucket/{name}/{file}", body)
    return f"s3://bucket/{name}"


def _request(url: str, body: bytes) -> None:
    # urllib's own default, a form, would be parsed as one.
    headers = {"content-type": "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers, method="PUT")) as answer:
        assert answer.status == 200


def _wait_for(url: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < until, "the server didn't start"
            time.sleep(0.1)
