"""[R] How often words stand near each other in a data set's texts, counted with Ray Data: what GloVe learns from.

A pair d places apart counts 1 / d, either way (Pennington, Socher and Manning 2014, section 4.2).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from dlsvc.data.catalog import held_out
from dlsvc.data.progress import Say, silent
from dlsvc.data.source import open_source
from dlsvc.data.table import Table, chunks
from dlsvc.data.tokenizer import SPECIAL, WordTokenizer
from dlsvc.errors import DataError, Refused
from dlsvc.spec.data_sections import DataSpec

_CHUNK = 8192
# One pair in so many is held out, by its words.
_ONE_IN = 50
_ROWS = 65536


def count_pairs(
    name: str,
    target: Path,
    home: Path,
    *,
    vocab_size: int,
    window: int,
    min_count: float,
    column: str = "text",
    say: Say = silent,
) -> dict[str, Any]:
    """Write a folder of Parquet whose rows are pairs, `text` (both words) and `count`, from the training split. Words
    beyond the `vocab_size` most frequent and pairs of less than `min_count` are left out. Needs a Ray cluster.
    """
    table = open_source(DataSpec(source=name), home, say).table("train")
    if column not in table.columns:
        raise DataError(f"{name} has no {column} column; it has {', '.join(table.columns)}")
    if target.exists() and any(target.iterdir()):
        raise Refused(f"{target} is not empty; choose a new directory")
    tokenizer = WordTokenizer.fit((text for part in _texts(table, column) for text in part), vocab_size + len(SPECIAL))
    counts = _counted(_texts(table, column), tokenizer, window).tocoo()
    kept = counts.data >= min_count
    if not kept.any():
        raise DataError(f"no pair of words in {name} counts {min_count} or more")
    rows, columns, values = counts.row[kept], counts.col[kept], counts.data[kept]
    say(f"{len(values):,} pairs of {tokenizer.vocab_size - len(SPECIAL):,} words")
    names = np.asarray(tokenizer.words, object)
    texts = names[rows - len(SPECIAL)] + " " + names[columns - len(SPECIAL)]
    test = np.asarray([held_out(text, _ONE_IN) for text in texts])
    target.mkdir(parents=True, exist_ok=True)
    for split, chosen in (("train", ~test), ("test", test)):
        found = pa.table({"text": texts[chosen].tolist(), "count": values[chosen].astype(np.float32)})
        pq.write_table(found, target / f"{split}.parquet", row_group_size=_ROWS)
    facts = {"source": name, "window": window, "words": len(tokenizer.words), "pairs": len(values)}
    (target / "cooccurrence.txt").write_text(json.dumps(facts) + "\n")
    return {"path": str(target), **facts, "train": int((~test).sum()), "test": int(test.sum())}


def _texts(table: Table, column: str) -> Iterator[list[str]]:
    for ids in chunks(len(table), _CHUNK):
        yield list(table.rows(ids)[column])


def _counted(parts: Iterator[list[str]], tokenizer: WordTokenizer, window: int) -> csr_matrix:
    """(V, V), symmetric. Each block of texts is counted where there is a CPU for it, the sums are added here."""
    size = tokenizer.vocab_size
    blocks = [pa.table({"text": part}) for part in parts]
    # Handed over whole: `from_arrow` would look at each block in a task of a whole CPU.
    found = ray.data.from_blocks(blocks).map_batches(
        lambda block: _near(tokenizer, block["text"].to_pylist(), window),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.5,
    )
    total = csr_matrix((size, size), dtype=np.float64)
    for block in found.iter_batches(batch_size=None, batch_format="numpy"):
        total = total + csr_matrix((block["count"], (block["one"], block["other"])), shape=(size, size))
    return total


def _near(tokenizer: WordTokenizer, texts: list[str], window: int) -> pa.Table:
    """The pairs of a block of texts with their counts, each pair once."""
    ids = [tokenizer.encode(text) for text in texts]
    words = np.zeros((len(ids), max(map(len, ids), default=0) or 1), np.int64)
    for place, row in enumerate(ids):
        words[place, : len(row)] = row
    distances = range(1, max(2, min(window + 1, words.shape[1])))
    parts = zip(*(_apart(words, distance) for distance in distances), strict=True)
    ones, others, counts = map(np.concatenate, parts)
    size = tokenizer.vocab_size
    summed = coo_matrix((counts, (ones, others)), shape=(size, size)).tocsr().tocoo()
    return pa.table({"one": summed.row, "other": summed.col, "count": summed.data})


def _apart(words: NDArray[np.int64], distance: int) -> tuple[NDArray[Any], ...]:
    """Known words so many places apart, either way, and what each pair counts."""
    first, second = words[:, :-distance].ravel(), words[:, distance:].ravel()
    known = (first >= len(SPECIAL)) & (second >= len(SPECIAL))
    one, other = first[known], second[known]
    return np.concatenate([one, other]), np.concatenate([other, one]), np.full(2 * len(one), 1 / distance)
