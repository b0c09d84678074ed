"""A home for pulled data sets that outlives the session, and small images made here."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def data_home() -> Path:
    """Data sets are pulled once and kept between sessions."""
    kept = Path(os.environ.get("DLSVC_TEST_HOME") or "~/.cache/dlsvc-tests").expanduser()
    kept.mkdir(parents=True, exist_ok=True)
    return kept


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """An image of one colour, or of the given pixels, as a file's bytes."""

    def encode(
        colour: object = (200, 30, 30),
        size: tuple[int, int] = (20, 10),
        *,
        mode: str = "RGB",
        kind: str = "PNG",
        **options: object,
    ) -> bytes:
        out = io.BytesIO()
        image = Image.fromarray(colour) if isinstance(colour, np.ndarray) else Image.new(mode, size, colour)
        image.save(out, kind, **options)
        return out.getvalue()

    return encode


@pytest.fixture
def image_folder(tmp_path: Path, encoded: Callable[..., bytes]) -> Path:
    """Sixty pictures in two classes, `dark` and `light`, without a test split."""
    root = tmp_path / "pictures"
    for name, grey in (("dark", 20), ("light", 220)):
        (root / name).mkdir(parents=True)
        for number in range(30):
            (root / name / f"{number:02}.png").write_bytes(encoded((grey, grey, grey)))
    return root
