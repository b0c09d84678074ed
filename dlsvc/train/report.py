"""`report.html`: one file that a person opens to see what a run did. Curves, metrics, pictures and the spec; no
network needed.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.data.tensors import to_tensors
from dlsvc.spec.load import parse
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import Run
from dlsvc.train.evaluate import evaluation_batches

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c2733; }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #d5dde5 }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
td.number { font-variant-numeric: tabular-nums } .muted { color: #66788a } img { max-width: 100% }
pre { background: #f4f7fa; padding: 1rem; overflow: auto; font-size: 13px }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem } .tile { background: #f4f7fa; border-radius: 8px }
.tile { padding: .7rem 1.1rem }
.tile b { display: block; font-size: 1.4rem }
"""
PICTURES = 64
SAMPLES = 12
_CELL = 96
# Waiting below this share is the jitter of two sides that are equally fast.
_KEEPS_UP = 0.1
Row = dict[str, str | np.ndarray]
_NOT_CURVES = {
    "step",
    "first_step",
    "fingerprint",
    "time",
    "samples",
    "epoch",
    "data_wait",
    "samples_per_s",
    "lr",
    "seconds_per_step",
}


def write_report(run: Run, result: Mapping[str, Any], home: Path) -> Path:
    """Write the report of a finished run; returns its path."""
    spec = run.read("spec.json")
    pictures, samples = _shown(result, home)
    parts = [
        f"<h1>{html.escape(run.name)}</h1><p class=muted>{_line(spec, result)}</p>",
        _tiles(result),
        f"<p>{html.escape(bottleneck(result['data_wait'], result['feed']))}</p>",
        "<h2>Curves</h2>" + _embedded(_curves(run), "training curves"),
        "".join(
            f"<h2>{html.escape(name.capitalize())}</h2>{_embedded(_grid(images), name)}"
            for name, images in pictures.items()
        ),
        _sampled(samples),
        "<h2>Metrics</h2>" + _table(result.get("metrics", {})),
        "<h2>Life of the run</h2>" + _attempts(run),
        f"<h2>Spec</h2><pre>{html.escape(json.dumps(spec, indent=2, sort_keys=True))}</pre>",
    ]
    path = run.path / "report.html"
    body = "\n".join(parts)
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>{html.escape(run.name)}</title><style>{_STYLE}</style>{body}\n",
        encoding="utf-8",
    )
    return path


def data_wait(run: Run) -> float:
    """The share of its training time that rank 0 waited for batches, the first record left out: it holds the start."""
    records = run.trajectory()
    settled = records[1:] or records
    seconds = [record["seconds_per_step"] * (record["step"] - record["first_step"]) for record in settled]
    waited = sum(record["data_wait"] * spent for record, spent in zip(settled, seconds, strict=True))
    return float(waited / sum(seconds)) if seconds else 0.0


def bottleneck(waited: float, feed: str) -> str:
    """Which side held the other up, and what would help. A feed that keeps up is never waited for."""
    share = f"Trainers waited for batches {waited:.0%} of the time"
    if waited < _KEEPS_UP:
        return f"{share}: computing is the bottleneck, and the data keeps up."
    cure = "more of data.stream.actors, or nodes for them" if feed == "stream" else "the stream feed on more CPUs"
    return f"{share}: the data is the bottleneck. Fewer or cheaper augmentations help, or {cure}."


def _line(spec: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    model, data = spec["model"]["name"], spec["data"]["source"]
    how = f"{spec['strategy']}, workers {result['world_sizes']}, {result['feed']} feed"
    return html.escape(f"{model} on {data}, {how}; published as {result.get('model')}")


def _tiles(result: Mapping[str, Any]) -> str:
    facts = {name: f"{value:.4f}" for name, value in list(result.get("metrics", {}).items())[:4]}
    facts |= {
        "steps": str(result.get("steps")),
        "seconds": f"{result['seconds']:.1f}",
        "restarts": str(result["restarts"]),
        "data wait": f"{result['data_wait']:.0%}",
    }
    tiles = "".join(
        f"<div class=tile><b>{html.escape(value)}</b>{html.escape(name)}</div>" for name, value in facts.items()
    )
    digest = html.escape(str(result.get("weights_sha256")))
    return f"<div class=tiles>{tiles}</div><p class=muted>weights sha256 {digest}</p>"


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td class=number>{value}</td></tr>" for name, value in values.items()
    )
    return f"<table>{rows}</table>"


def _attempts(run: Run) -> str:
    heads = "<tr><th>start</th><th>workers</th><th>first step</th><th>checkpoints passed over</th></tr>"
    rows = ""
    for number, attempt in enumerate(run.lines("attempts.jsonl"), 1):
        passed = html.escape("; ".join(attempt["rejected"]) or "none")
        cells = (number, attempt["world_size"], attempt["start_step"], passed)
        rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<table>{heads}{rows}</table>"


def _curves(run: Run) -> bytes:
    """Losses, rates and evaluation metrics over steps, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = run.trajectory()
    steps = [record["step"] for record in records]
    panels: dict[str, dict[str, list[Any]]] = {}
    panels["losses and reports"] = {
        name: [r.get(name) for r in records] for name in (records[-1] if records else {}) if name not in _NOT_CURVES
    }
    panels["samples per second"] = {"samples/s": [record["samples_per_s"] for record in records]}
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for place, (title, curves) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, values in curves.items():
            axes.plot(steps, values, label=name, linewidth=1.4)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        if curves:
            axes.legend(fontsize=8, frameon=False)
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _shown(result: Mapping[str, Any], home: Path) -> tuple[dict[str, np.ndarray], list[Row]]:
    """What the task wants shown of the first samples of the evaluation split, made with the published weights: grids of
    pictures, and rows of a table.
    """
    bundle = ModelStore(home).open(str(result["model"]))
    spec: Any = parse(bundle.config["spec"])
    table = open_source(spec.data, home, seed=spec.seed).table(spec.evaluate.split)
    preprocess = Preprocess.from_json(bundle.preprocess)
    _, arrays = next(iter(evaluation_batches(table, preprocess, min(len(table), 512))))
    spread = evaluation_batches(table, preprocess, SAMPLES, count=SAMPLES)
    task, model = bundle.task(), bundle.model()
    task.read_tokens = preprocess.read_tokens
    modules, device = task.modules(model), torch.device("cpu")
    with torch.inference_mode():
        found = task.pictures(modules, to_tensors(arrays, device))
        rows = [row for _, part in spread for row in task.samples(modules, to_tensors(part, device))]
    return {name: images[:PICTURES] for name, images in found.items() if len(images)}, rows


def _sampled(rows: list[Row]) -> str:
    """A table of single samples: texts, and images enlarged."""
    if not rows:
        return ""
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in rows)
    return f"<h2>Samples</h2><table>{heads}{body}</table>"


def _cell(value: str | np.ndarray) -> str:
    return html.escape(value) if isinstance(value, str) else _embedded(_grid(value[None], width=_CELL), "a sample")


def _grid(images: np.ndarray, width: int = 960) -> bytes:
    """(N, H, W, C) in [0, 1] side by side, enlarged without smoothing, as PNG."""
    from PIL import Image

    pixels = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    count, height, side, channels = pixels.shape
    columns = min(16, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (side + 1) - 1, channels), 255, np.uint8)
    for place in range(count):
        top, left = (place // columns) * (height + 1), (place % columns) * (side + 1)
        sheet[top : top + height, left : left + side] = pixels[place]
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    zoom = max(1, width // picture.width)
    out = io.BytesIO()
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def _embedded(png: bytes, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
