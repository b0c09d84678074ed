"""The contrastive loss against its formula, and retrieval by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dlsvc.tasks.base import Metrics
from dlsvc.tasks.contrastive import Contrastive, contrast, partner_ranks
from tests.models.every import build


def _features(count: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(count, 4)) for _ in range(2))
    return {"image_embeds": images, "text_embeds": texts, "logit_scale": torch.tensor(10.0)}


def test_loss_is_the_slides_formula_both_ways() -> None:
    features = _features()
    losses, report = Contrastive().coupled_losses(features)
    similarity = np.exp(10.0 * features["image_embeds"].numpy() @ features["text_embeds"].numpy().T)
    image_to_text = -np.log(np.diag(similarity) / similarity.sum(1)).mean()
    text_to_image = -np.log(np.diag(similarity) / similarity.sum(0)).mean()
    assert losses["image_to_text_loss"].item() == pytest.approx(image_to_text / 2, rel=1e-5)
    assert losses["text_to_image_loss"].item() == pytest.approx(text_to_image / 2, rel=1e-5)
    assert report["temperature"].item() == pytest.approx(0.1)


def test_gradients_through_cached_features_are_those_of_the_whole_batch() -> None:
    """Atoms replayed against the features' gradients (GradCache) give the gradient of one big batch."""
    whole, replayed = build("clip"), build("clip")
    whole.losses("main").backward()
    task, atoms = (
        replayed.task,
        [{k: v[part] for k, v in replayed.batch.items()} for part in (slice(0, 4), slice(4, 8))],
    )
    with torch.no_grad():
        own = [task.features(replayed.modules, atom) for atom in atoms]
    joined = {name: torch.cat([f[name] for f in own]) for name in ("image_embeds", "text_embeds")}
    leaves = {name: value.requires_grad_() for name, value in (joined | {"logit_scale": own[0]["logit_scale"]}).items()}
    torch.stack(list(task.coupled_losses(leaves)[0].values())).sum().backward()
    for place, atom in enumerate(atoms):
        found = task.features(replayed.modules, atom)
        parts = [(found[name] * leaves[name].grad[4 * place : 4 * place + 4]).sum() for name in joined]
        (sum(parts) + found["logit_scale"] * leaves["logit_scale"].grad / 2).backward()
    for one, two in zip(whole.model.parameters(), replayed.model.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("queries", [None, 3])
def test_in_chunks_it_is_the_same_loss(queries: int | None) -> None:
    """The loss and its gradients within 1e-6 of those of all logits at once, also with several vectors an image."""
    found = []
    for chunk in (70, 16):
        features = _features(70)
        if queries:
            features["image_embeds"] = torch.nn.functional.normalize(torch.randn(70, queries, 4), dim=-1)
        features = {name: value.requires_grad_() for name, value in features.items()}
        losses, report = contrast(features, chunk)
        torch.stack(list(losses.values())).sum().backward()
        found.append([*losses.values(), *report.values(), *(value.grad for value in features.values())])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=1e-6)


def test_what_is_kept_for_the_gradient_grows_with_the_batch() -> None:
    """From 1,024 to 8,192 samples: a few numbers a sample, where all logits at once are 8,192."""
    kept = {count: _kept(count) for count in (2048, 4096, 8192)}
    print(f"numbers kept for the gradient: {kept}; all logits at once: {_kept(2048, chunk=2048)} at 2048")
    assert _kept(2048, chunk=2048) >= 2048**2
    for count, numbers in kept.items():
        assert numbers <= count * (count / 1024 + 8)


def _kept(count: int, chunk: int = 1024) -> int:
    """How many numbers the loss keeps until its gradient is taken, each storage once."""
    features = {name: value.requires_grad_() for name, value in _features(count).items()}
    own = {value.untyped_storage().data_ptr() for value in features.values()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses, _ = contrast(features, chunk)
    assert all(torch.isfinite(value) for value in losses.values())
    return sum(storages.values())


def test_ranks_by_hand() -> None:
    queries = np.eye(3)
    targets = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.9], [0.0, 0.6, 0.1]])
    np.testing.assert_array_equal(partner_ranks(queries, targets), [0, 1, 1])


def test_a_collapsed_model_scores_as_chance_does() -> None:
    same = np.ones((20, 4))
    np.testing.assert_array_equal(partner_ranks(same, same), np.arange(20))


@torch.inference_mode()
def test_retrieval_is_exact_over_shards_in_any_order() -> None:
    subject = build("clip", num_samples=12)
    parts = Metrics()
    for part in (slice(7, 12), slice(0, 7)):
        shard = Metrics()
        subject.task.measure(subject.modules, {k: v[part] for k, v in subject.batch.items()}, shard)
        parts.merge(shard)
    found = subject.task.compute(parts)
    features = subject.task.features(subject.modules, subject.batch)
    similarity = features["image_embeds"] @ features["text_embeds"].T
    hits = (similarity.argmax(1) == torch.arange(12)).float().mean().item()
    assert found["image_to_text_r1"] == pytest.approx(hits)
    assert found["image_to_text_r1"] <= found["image_to_text_r5"] <= found["image_to_text_r10"]
    assert found["temperature"] == pytest.approx(0.07, rel=1e-5)


@torch.inference_mode()
def test_predictions_embed_whichever_inputs_there_are() -> None:
    subject = build("clip")
    subject.model.eval()
    task, batch = subject.task, subject.batch
    images = task.predict(subject.modules, {"image": batch["image"]})
    texts = task.predict(subject.modules, {name: batch[name] for name in ("tokens", "attention_mask")})
    assert set(images[0]) == {"image_embed", "logit_scale"}
    assert set(texts[0]) == {"text_embed", "logit_scale"}
    both = task.features(subject.modules, batch)
    for name, rows in (("image_embed", images), ("text_embed", texts)):
        np.testing.assert_allclose([row[name] for row in rows], both[f"{name}s"], rtol=1e-5, atol=1e-6)
    assert {row["logit_scale"] for row in [*images, *texts]} == {both["logit_scale"].item()}
