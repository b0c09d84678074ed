"""Diffusion in latents: what is noised, what the denoiser is told, and what a sample is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from dlsvc.tasks.latent_denoising import LatentDenoising
from tests.models.every import Subject, build


def subject() -> Subject:
    found = build("latent_diffusion")
    assert isinstance(found.task, LatentDenoising)
    found.model.eval()
    return found


def heard(found: Subject, batch: dict[str, Tensor]) -> list[Tensor]:
    """The tokens that the denoiser is given while a sample is made."""
    told: list[Tensor] = []
    hook = found.modules["denoiser"].register_forward_pre_hook(lambda module, inputs: told.append(inputs[2]))
    with torch.inference_mode():
        found.task.predict(found.modules, batch)
    hook.remove()
    return told


def test_latents_are_scaled_draws_of_the_autoencoder() -> None:
    found = subject()
    found.task.scale = 3.0  # type: ignore[attr-defined]
    with torch.no_grad():
        clean = found.task._clean(found.modules, found.batch)  # type: ignore[attr-defined]
        outputs = found.modules["autoencoder"](found.batch["image"], torch.zeros_like(clean), decode=False)
    spread = (clean / 3 - outputs["mean"]) / torch.exp(0.5 * outputs["logvar"])
    assert abs(float(spread.mean())) < 0.2
    assert abs(float(spread.std()) - 1) < 0.2


def test_only_the_denoiser_gets_gradients() -> None:
    found = subject()
    sum(found.task.losses(found.modules, found.batch, "main")[0].values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in found.modules["autoencoder"].parameters())
    trained = [parameter for parameter in found.modules["denoiser"].parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)


def test_texts_are_left_out_to_their_share() -> None:
    task = LatentDenoising(drop_label=0.25)
    model = subject().model
    task.modules(model)
    tokens = torch.full((4000, 8), 9)
    batch = {"tokens": tokens, "key": torch.arange(4000) * 7919**3, "id": torch.arange(4000)}
    told = task._condition(batch, task.drop_label)
    assert told is not None
    empty = (told == torch.tensor([1, 2, 0, 0, 0, 0, 0, 0])).all(1)
    assert abs(float(empty.double().mean()) - 0.25) < 0.02
    assert torch.equal(told[~empty], tokens[~empty])


def test_texts_of_data_may_be_shorter_than_the_models() -> None:
    found = subject()
    short = found.batch["tokens"][:, :5]
    padded = torch.cat([short, torch.zeros(len(short), 3, dtype=torch.int64)], dim=1)
    told = found.task._condition({**found.batch, "tokens": short}, 0.0)  # type: ignore[attr-defined]
    assert torch.equal(told, padded)
    asked = {"tokens": short, "negative_tokens": short.flip(0), "key": found.batch["key"]}
    (first, *_) = heard(found, asked)
    assert torch.equal(first, torch.cat([padded, padded.flip(0)]))


def test_texts_are_filled_up_as_the_vocabulary_does() -> None:
    found = subject()
    found.model.pad_id, found.model.no_text = 7, (1, 2, *[7] * 6)  # type: ignore[assignment]
    found.task.modules(found.model)
    told = found.task._condition({**found.batch, "tokens": found.batch["tokens"][:, :5]}, 0.0)  # type: ignore[attr-defined]
    assert (told[:, 5:] == 7).all()
    assert (found.task._condition({"key": found.batch["key"]}, 0.0)[:, 2:] == 7).all()  # type: ignore[attr-defined]


def test_a_negative_text_stands_where_the_empty_one_would() -> None:
    found = subject()
    asked = {name: found.batch[name] for name in ("tokens", "key")}
    (first, *_) = heard(found, asked)
    wanted, without = first.chunk(2)
    assert torch.equal(wanted, asked["tokens"])
    assert (without == torch.tensor([1, 2, 0, 0, 0, 0, 0, 0])).all()
    (first, *_) = heard(found, {**asked, "negative_tokens": asked["tokens"].flip(0)})
    assert torch.equal(first.chunk(2)[1], asked["tokens"].flip(0))


def test_strength_is_the_share_of_the_steps() -> None:
    found = subject()
    asked = {name: found.batch[name] for name in ("tokens", "key", "image")}
    for strength, steps in ((0.1, 1), (0.5, 5), (1.0, 10)):
        several = {"strength": torch.full((8,), strength), "steps": torch.full((8,), 10)}
        assert len(heard(found, {**asked, **several})) == steps


def test_a_latent_stays_only_where_all_of_its_pixels_do() -> None:
    found = subject()
    mask = torch.zeros(8, 8, 8, dtype=torch.bool)
    mask[:, 0, 0] = True
    given = found.task._given(  # type: ignore[attr-defined]
        found.modules, {**found.batch, "mask": mask, "strength": torch.ones(8)}
    )
    assert given.stay.shape == (8, 1, 4, 4)
    assert given.stay[:, :, 0, 0].eq(0).all()
    assert int(given.stay.sum()) == 8 * 15
