"""`dlsvc neighbors`: what of a data set lies nearest a query, under any published model that makes vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlsvc.data.progress import Say, silent
from dlsvc.data.source import open_source
from dlsvc.data.splits import Source
from dlsvc.data.table import BYTES_COLUMNS, Table
from dlsvc.errors import DataError, UsageError
from dlsvc.neighbors.distance import Ids, Scores, Vectors, knn_accuracy, nearest
from dlsvc.neighbors.index import Encoder, VectorIndex, index_of
from dlsvc.neighbors.picture import DRAWN, as_picture, draw_map, draw_row
from dlsvc.nn.device import open_device
from dlsvc.store.bundle import Bundle
from dlsvc.store.models import ModelStore
from dlsvc.train.evaluate import check_classes

# A row's columns that say what it is.
_TOLD = ("text", "uri")


def neighbors(
    reference: str,
    home: Path,
    *,
    query: Mapping[str, Any],
    data: str | None = None,
    split: str = "train",
    k: int = 8,
    metric: str = "cosine",
    grid: Path | None = None,
    plane: Path | None = None,
    accuracy: bool = False,
    device: str = "cpu",
    say: Say = silent,
) -> dict[str, Any]:
    """The k nearest samples of a split to a query: `image`, `audio`, `video` or `series` (paths; a series as JSON),
    `text`, `features`, or `id`, a sample of the split, which is not its own neighbour. Without a query only what
    `plane` and `accuracy` ask for.

    With `grid` the query and its neighbours as PNG there, with `plane` the split on its principal plane; with
    `accuracy` the share of the split that its k nearest others classify right.
    """
    if grid is not None and not query:
        raise UsageError("--grid draws a query and its neighbours; give a query")
    encoder = Encoder(ModelStore(home).open(reference), open_device(device))
    source = source_of(encoder.bundle, data, home)
    table, classes = source.table(split), _classes(encoder, source)
    index = index_of(encoder, table, home, say)
    found: dict[str, Any] = {
        "model": encoder.bundle.reference,
        "data": source.name,
        "split": split,
        "samples": len(index.ids),
        "dimensions": index.vectors.shape[1],
        "metric": metric,
    }
    if query:
        vector, own = _vector(encoder, index, query)
        places, scores = nearest(vector, index.vectors, k, metric, own=own)
        rows = table.rows(index.ids[places[0]])
        found["neighbors"] = _told(classes, index, places[0], _measured(metric, scores[0]), rows)
        if grid is not None:
            found["grid"] = _drawn(encoder, table, query, rows, found["neighbors"], grid)
    if accuracy:
        found["knn_accuracy"] = _accuracy(index, k, metric)
    if plane is not None:
        found["map"] = draw_map(index.vectors, index.labels, classes, plane)
    return found


def source_of(bundle: Bundle, data: str | None, home: Path) -> Source:
    from dlsvc.spec.data_sections import DataSpec
    from dlsvc.spec.load import parse

    if data is not None:
        return open_source(DataSpec(source=data), home)
    if bundle.config["spec"] is None:
        raise UsageError(f"{bundle.reference} was imported: say with --data where to look for neighbours")
    spec: Any = parse(bundle.config["spec"])
    return open_source(spec.data, home, seed=spec.seed)


def _vector(encoder: Encoder, index: VectorIndex, query: Mapping[str, Any]) -> tuple[Vectors, Any]:
    """The query's vector (1, D), and its own place in the index where it has one."""
    if len(query) != 1:
        raise UsageError(f"give one query, not {' and '.join(query)}")
    if "id" in query:
        place = np.searchsorted(index.ids, query["id"])
        if place == len(index.ids) or index.ids[place] != query["id"]:
            raise DataError(f"sample {query['id']} is not in the split, or can't be decoded")
        return index.vectors[place : place + 1], np.asarray([place])
    asked = [{name: _read(name, value) for name, value in query.items()}]
    encoder.preprocess.check_lengths(asked, may_cut=False)
    return encoder.vectors(encoder.preprocess.from_request(asked)), None


def _read(name: str, value: Any) -> Any:
    """What a query says, from the file that it names where it names one."""
    if name in BYTES_COLUMNS:
        return Path(value).read_bytes()
    if name != "series":
        return value
    try:
        return json.loads(Path(value).read_bytes())
    except ValueError as error:
        raise DataError(f"{value} is not JSON: {error}") from error


def _measured(metric: str, scores: Scores) -> list[dict[str, float]]:
    """What each neighbour is told to be: a distance, the less the nearer, or a score."""
    name, sign = ("distance", -1) if metric == "euclidean" else ("score", 1)
    return [{name: round(sign * score, 6) + 0.0} for score in scores.tolist()]


def _classes(encoder: Encoder, source: Source) -> Sequence[str]:
    """The names of the labels that preprocessing makes of the data's."""
    if encoder.preprocess.positive is None:
        return source.classes
    check_classes(encoder.bundle, source)
    return encoder.preprocess.classes


def _told(
    classes: Sequence[str],
    index: VectorIndex,
    places: Ids,
    measured: Sequence[Mapping[str, float]],
    rows: Mapping[str, Any],
) -> list[dict[str, Any]]:
    told = []
    for rank, (place, how_near) in enumerate(zip(places.tolist(), measured, strict=True)):
        line: dict[str, Any] = {"id": int(index.ids[place]), **how_near}
        if index.labels is not None:
            label = int(index.labels[place])
            line["label"] = classes[label] if label < len(classes) else label
        told.append(line | {name: rows[name][rank] for name in _TOLD if name in rows})
    return told


def _drawn(
    encoder: Encoder,
    table: Table,
    query: Mapping[str, Any],
    rows: Mapping[str, Any],
    told: Sequence[Mapping[str, Any]],
    grid: Path,
) -> str:
    kind = next((kind for kind in DRAWN if kind in rows), None)
    if kind is None:
        raise UsageError("--grid draws images, films, sounds, series and texts, and this data has none of them")
    pictures = [*_query_picture(table, query, kind), *(as_picture(kind, value) for value in rows[kind])]
    near = [row.get("score", row.get("distance")) for row in told]
    captions = ["query"] * (len(pictures) - len(told))
    captions += [f"{value:.3f} {row.get('label', '')}" for value, row in zip(near, told, strict=True)]
    return draw_row(pictures, captions, grid)


def _query_picture(table: Table, query: Mapping[str, Any], kind: str) -> list[Any]:
    if "id" in query:
        return [as_picture(kind, value) for value in table.rows(np.asarray([query["id"]], np.int64))[kind]]
    return [as_picture(name, _read(name, value)) for name, value in query.items() if name in DRAWN]


def _accuracy(index: VectorIndex, k: int, metric: str) -> float:
    if index.labels is None:
        raise UsageError("--accuracy needs labels, and this data has none")
    return knn_accuracy(index.vectors, index.labels, k, metric)
