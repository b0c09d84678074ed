"""What only a constructor knows is told where the spec says it, and before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsvc.errors import SpecError, UsageError
from dlsvc.spec.load import load
from dlsvc.spec.schema import TrainSpec
from dlsvc.train.buildable import RULES, unbuildable
from dlsvc.train.prepare import open_run, prepare_job
from tests.models.every import SHAPES, VARIANTS, entry_of
from tests.train.tiny_systems import TINY
from tests.train.trials import SYSTEMS, spec_of

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
        (
            "generative/ddpm-fashion-mnist",
            "task.args.drop_label=1.5",
            "drop_label must be in .0, 1. and guidance in 0 to",
        ),
        ("generative/ddpm-fashion-mnist", "task.args.guidance=101", "guidance in 0 to 100, not 0.1 and 101"),
        ("generative/latent-diffusion-fashion-mnist", "task.args.prediction=noise", "give prediction: velocity"),
        ("generative/vae-fashion-mnist", "task.args={beta: -1}", "task.args: beta must be at least 0, not -1"),
        ("generative/gan-fashion-mnist", "task.args={gradient_penalty: -1}", "gradient_penalty must be at least 0"),
        ("generative/gan-fashion-mnist", "task.args={gradient_penalty: 10}", "task.args: .* the model norm: none"),
        ("generative/gan-fashion-mnist", "task.args={loss: wasserstein}", "task.args: .* norm: spectral"),
        ("generative/srgan-photos", "task.args.perceptual=-1", "must be at least 0 and not all 0, not 1.0, -1.0 and"),
        ("generative/srgan-photos", "task.args={pixel: 0, perceptual: 0, adversarial: 0}", "not all 0"),
        ("language/transformer-bible", "task.args.length_penalty=11", "length_penalty must be in -10 to 10, not 11"),
        ("multimodal/blip-emoji", "task.args.length_penalty=-11", "length_penalty must be in -10 to 10, not -11"),
        (
            "generative/vae-fashion-mnist",
            "task={name: denoising}",
            "task denoising doesn't find what it trains in model",
        ),
        ("tune/lenet5-digits", "train.task.args={label_smoothing: 2}", "train.task.args: label_smoothing must"),
    ],
)
def test_a_refusal_is_told_at_its_place(recipe: str, change: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        load(JOBS / f"{recipe}.yaml", [change], RULES)


@pytest.mark.parametrize("name", SHAPES)
def test_every_tiny_model_goes_with_its_task_without_weights(name: str) -> None:
    entry, (_, model_args, task_args) = entry_of(name), VARIANTS.get(name, (name, {}, {}))
    system = {**SYSTEMS, **TINY}[entry.name]
    model = {"name": entry.name, "args": {**system["model"]["args"], **model_args}}
    data = {**system["data"]}
    spec = TrainSpec.model_validate(
        {
            "kind": "train",
            "name": "tiny",
            "model": model,
            "task": {"args": task_args},
            "data": data,
            "budget": {"steps": 1},
        }
    )
    assert list(unbuildable(spec)) == []


def test_a_run_is_refused_before_anything_starts(home: Path) -> None:
    args = {"image_size": 8, "patch_size": 4, "in_channels": 1, "num_classes": 10, "d_model": 30, "num_heads": 4}
    spec = spec_of("vit", model__args=args)
    spec, run = open_run(spec, "unbuildable", home)
    with pytest.raises(UsageError, match=r"model\.args: d_model 30 must be a multiple of num_heads 4"):
        prepare_job(spec, run, home)
