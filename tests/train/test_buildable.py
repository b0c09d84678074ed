"""What only a constructor knows is told where the spec says it, and before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsvc.errors import SpecError, UsageError
from dlsvc.spec.load import load
from dlsvc.train.buildable import RULES
from dlsvc.train.prepare import open_run, prepare_job
from tests.train.trials import spec_of

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.mark.parametrize(
    ("recipe", "change", "problem"),
    [
        (
            "vision/vit-fashion-mnist",
            "model.args.num_heads=5",
            ":7:9: model.args: d_model 96 must be a multiple of",
        ),
        ("vision/vit-fashion-mnist", "model.args.dropout=3", "model.args: vit can't be built of these: dropout prob"),
        ("vision/resnet34-fashion-mnist", "model.args.base_channels=0", "conv1.weight of shape .0, 1, 7, 7., which"),
        ("generative/ddpm-fashion-mnist", "task.args.sample_steps=0", ":8:31: task.args: a sampler takes 1 to 1000"),
        ("tune/lenet5-digits", "train.task.args={label_smoothing: 2}", "train.task.args: label_smoothing must"),
    ],
)
def test_a_refusal_is_told_at_its_place(recipe: str, change: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        load(JOBS / f"{recipe}.yaml", [change], RULES)


def test_a_run_is_refused_before_anything_starts(home: Path) -> None:
    args = {"image_size": 8, "patch_size": 4, "in_channels": 1, "num_classes": 10, "d_model": 30, "num_heads": 4}
    spec = spec_of("vit", model__args=args)
    spec, run = open_run(spec, "unbuildable", home)
    with pytest.raises(UsageError, match=r"model\.args: d_model 30 must be a multiple of num_heads 4"):
        prepare_job(spec, run, home)
