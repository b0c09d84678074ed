"""A plain HTTP client: what curl would do."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from dlsvc.data.codecs import encode_png


@dataclass(frozen=True)
class Reply:
    status: int
    type: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    url: str

    def send(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Reply:
        headers = {"content-type": content_type} if body is not None else {}
        asked = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=60) as reply:
                return Reply(reply.status, reply.headers["content-type"], reply.read())
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return Reply(error.code, error.headers["content-type"], error.read())

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, model: str, body: bytes, content_type: str = "") -> Reply:
        return self.send("POST", f"/models/test-{model}", body, content_type)


def as_json(inputs: Any, **parameters: Any) -> bytes:
    """The body of a JSON request."""
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode()


def as_text(body: bytes) -> str:
    return base64.b64encode(body).decode()


def picture(seed: int, channels: int = 1) -> bytes:
    """Noise as PNG."""
    shape = (20, 20, 3) if channels == 3 else (20, 20)
    return encode_png(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def chirp(seed: int, seconds: float = 0.7) -> bytes:
    """A rising tone in noise as WAV, 8 kHz."""
    time = np.arange(int(8000 * seconds)) / 8000
    noise = np.random.default_rng(seed).normal(size=len(time)) / 50
    out = io.BytesIO()
    soundfile.write(out, np.sin(2 * np.pi * (300 + 100 * seed) * time * (1 + time)) / 2 + noise, 8000, format="WAV")
    return out.getvalue()


def free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def film(seed: int, frames: int = 5) -> bytes:
    """An animated GIF of noise."""
    random = np.random.default_rng(seed)
    pictures = [Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(frames)]
    out = io.BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:])
    return out.getvalue()
