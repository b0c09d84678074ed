"""Samples that frozen parts of a model have read beforehand: what they made of each lies in a file beside the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlsvc.data.table import Columns, Ids, Table

COLUMN = "encoded"


class EncodedTable(Table):
    """A table with `encoded`, float32 (B, ...), in place of its images. Row i of the file, an array of numpy's, is row
    i's; one that holds NaN could not be decoded.
    """

    def __init__(self, table: Table, file: Path) -> None:
        self._table = table
        self._encoded = np.load(file, mmap_mode="r")
        self.columns = (*(name for name in table.columns if name != "image"), COLUMN)
        self.nbytes = self._encoded.nbytes
        self._fingerprint = f"{table.fingerprint}/{file.stem}"

    def __len__(self) -> int:
        return len(self._table)

    def rows(self, ids: Ids) -> Columns:
        rows = self._table.rows(ids)
        rows.pop("image", None)
        return {**rows, COLUMN: np.asarray(self._encoded[ids])}
