"""[R] `make demo`: real images from spec to picture. Trains on two Ray workers, publishes, serves, asks over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dlsvc.data.codecs import Pixels, encode_png
from dlsvc.data.source import open_source
from dlsvc.environment import prepare
from dlsvc.predictor import Predictor
from dlsvc.spec.load import load_kind
from dlsvc.spec.recipes import find
from dlsvc.spec.schema import ServedModel, ServeSpec, TrainSpec
from dlsvc.store.models import ModelStore
from dlsvc.terminal import table
from serving.dialects import huggingface
from serving.ingress import fast_ingress
from serving.predict import answer
from serving.predictor import served
from serving.run import server

OUT = Path("demo-out")
FLOOR = 0.97
WORKERS = 2
PICTURES = 8
_ZOOM, _CAPTION = 128, 40

RECIPE = "vision/lenet5-digits"


@dataclass(frozen=True)
class Shown:
    """A held-out picture, what it is, and what the server said."""

    pixels: Pixels
    label: str
    said: str
    score: float
    is_offline: bool


def main() -> int:
    """Exit code 0 when the model is good enough, and the server says what offline prediction does."""
    os.environ.setdefault("DLSVC_HOME", str((OUT / "home").absolute()))
    home = Path(os.environ["DLSVC_HOME"])
    prepare(home)
    with fast_ingress():
        from dlsvc.cluster import cluster

        with cluster(None, cpus=WORKERS + 4):
            result = _train()
            shown, url = _serve_and_ask(str(result["model"]), home)
    picture = _draw(shown, OUT / "predictions.png")
    return _conclude(result, shown, picture, url)


def _train() -> dict[str, Any]:
    from dlsvc.train.launch import train

    spec = _spec()
    _say(f"training {spec.model.name} on {spec.data.source} with {WORKERS} Ray Train workers")
    return train(spec)


def _spec() -> TrainSpec:
    return load_kind(TrainSpec, str(find(RECIPE)))


def _serve_and_ask(model: str, home: Path) -> tuple[list[Shown], str]:
    predictor = served(ModelStore(home).open(model))
    spec = ServeSpec(models=(ServedModel(model=model),), port=_free_port())
    _say(f"serving {model}")
    with server(spec, home=home) as base:
        url = f"{base}/models/{model.partition('@')[0]}"
        _say(f"asking {url} about {PICTURES} held-out digits")
        return [_ask(url, predictor, pixels, label) for pixels, label in _held_out(home)], url


def _held_out(home: Path) -> list[tuple[Pixels, str]]:
    """The first of the test split, as the classes' names call them."""
    source = open_source(_spec().data, home)
    rows = source.table("test").rows(np.arange(PICTURES, dtype=np.int64))
    return [(image, source.classes[label]) for image, label in zip(rows["image"], rows["label"], strict=True)]


def _ask(url: str, predictor: Predictor, pixels: Pixels, label: str) -> Shown:
    """POST a picture as PNG, and compare what comes back with the same request answered here, byte by byte."""
    body = encode_png(pixels)
    asked = urllib.request.Request(url, data=body, headers={"content-type": "image/png"})
    with urllib.request.urlopen(asked, timeout=60) as reply:
        served = reply.read()
    offline = answer(predictor, huggingface.parse(predictor.task_name, body)).content
    best = json.loads(served)[0]
    return Shown(pixels, label, best["label"], best["score"], served == huggingface.encode(offline))


def _draw(shown: list[Shown], path: Path) -> Path:
    """The pictures side by side, enlarged, with what was predicted under each."""
    sheet = Image.new("RGB", (len(shown) * _ZOOM, _ZOOM + _CAPTION), "white")
    brush = ImageDraw.Draw(sheet)
    for place, one in enumerate(shown):
        picture = Image.fromarray(np.ascontiguousarray(one.pixels.squeeze()))
        sheet.paste(picture.resize((_ZOOM - 8, _ZOOM - 8), Image.Resampling.NEAREST), (place * _ZOOM + 4, 4))
        colour = "darkgreen" if one.said == one.label else "darkred"
        brush.text((place * _ZOOM + 8, _ZOOM + 4), f"{one.said}   {one.score:.3f}", colour, font_size=20)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _conclude(result: dict[str, Any], shown: list[Shown], picture: Path, url: str) -> int:
    columns = ("digit", "truth", "predicted", "score", "served = offline")
    rows = [
        {
            "digit": place,
            "truth": one.label,
            "predicted": one.said,
            "score": f"{one.score:.4f}",
            "served = offline": "yes" if one.is_offline else "NO",
        }
        for place, one in enumerate(shown)
    ]
    accuracy = result["metrics"]["accuracy"]
    is_good, is_offline = accuracy >= FLOOR, all(one.is_offline for one in shown)
    print(table(rows, columns), end="\n\n")
    print(f"accuracy  {accuracy:.4f} on the held-out digits ({'at least' if is_good else 'BELOW'} {FLOOR})")
    print(f"model     {result['model']}, trained in {result['seconds']:.0f} s")
    print(f"served    {url} (stopped again)")
    print(f"pictures  {picture}")
    print(f"report    {result['report']}")
    return 0 if is_good and is_offline else 1


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
