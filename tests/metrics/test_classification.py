"""Against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as reference

from dlsvc.errors import UsageError
from dlsvc.metrics.classification import confusion, draw_confusion, intersection_over_union, macro_f1, top_k
from dlsvc.train.evaluate import evaluate_bundle
from tests.serving.conftest import publish


def _drawn(count: int = 500, num_classes: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, num_classes, generator=generator)
    return logits, torch.randint(0, num_classes, (count,), generator=generator)


def test_tables_and_scores_are_scikit_learns() -> None:
    logits, label = _drawn()
    guess = logits.argmax(1)
    table = confusion(label, guess, 7).numpy()
    np.testing.assert_array_equal(table, reference.confusion_matrix(label, guess))
    assert macro_f1(np.diag(table), table.sum(1), table.sum(0)) == pytest.approx(
        reference.f1_score(label, guess, average="macro")
    )
    assert list(intersection_over_union(table).values()) == pytest.approx(
        reference.jaccard_score(label, guess, average=None)
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_is_scikit_learns(k: int) -> None:
    logits, label = _drawn()
    expected = reference.top_k_accuracy_score(label, logits.numpy(), k=k, normalize=False)
    assert int(top_k(logits, label, k)) == expected


def test_a_table_is_drawn_row_by_row(tmp_path: Path) -> None:
    """What is right lies dark on the diagonal, whatever the number of a class's samples."""
    path = Path(draw_confusion(np.diag([1000, 10, 1]), ["a", "b", "c"], tmp_path / "new" / "table.png"))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    dark = (pixels == [8, 48, 107]).all(-1)  # the end of the scale
    rows, columns = np.nonzero(dark)
    assert np.corrcoef(rows, columns)[0, 1] == pytest.approx(8 / 9, abs=0.02)  # three squares on a diagonal
    assert 0.2 < dark.sum() / (len(np.unique(rows)) * len(np.unique(columns))) < 0.45


def test_evaluate_draws_the_whole_split(home: Path, tmp_path: Path) -> None:
    found = evaluate_bundle(publish("lenet5", home), home, confusion=tmp_path / "digits.png")
    assert (found["confusion"], found["samples"]) == (str(tmp_path / "digits.png"), 297)
    assert (tmp_path / "digits.png").exists()
    with pytest.raises(UsageError, match="--confusion is of classes, .* is of task autoencoding"):
        evaluate_bundle(publish("codes", home), home, confusion=tmp_path / "codes.png")
