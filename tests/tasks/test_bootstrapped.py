"""BLIP's contrast with a momentum encoder and a queue, against its formulas written out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.engine.base import Engine, Phase, Place
from dlsvc.errors import UsageError
from dlsvc.tasks.base import Batch
from dlsvc.tasks.bootstrapped import Bootstrapped
from dlsvc.tasks.contrastive import contrast
from dlsvc.tasks.momentum import FeatureQueue, contrast_with_memory
from dlsvc.train.meter import Meter
from dlsvc.train.objective import Atom, run_phase
from tests.models.every import Subject, build

STEPS, ATOMS, MICRO, LR = 5, 2, 4, 0.1
QUEUE = {"blip": "blip, queue", "blip2_qformer": "blip2_qformer, queue"}
DECAY, SIZE, ALPHA = 0.9, 24, 0.4


def _engine(subject: Subject) -> Engine:
    parameters = [p for p in subject.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD([{"params": parameters, "base_lr": LR}], LR)
    phase = Phase("main", "model", optimizer, lambda step: 1.0)
    settings: dict[str, Any] = {"seed": 0, "place": Place(), "num_atoms": ATOMS, "companions": subject.companions}
    return Engine(subject.modules, [phase], **settings)


def _batches(subject: Subject) -> list[Batch]:
    """The same texts with other images in every step."""
    torch.manual_seed(3)
    return [{**subject.batch, "image": torch.randn_like(subject.batch["image"])} for _ in range(STEPS)]


def _atoms(batch: Batch) -> list[Batch]:
    return [{name: value[at * MICRO : (at + 1) * MICRO] for name, value in batch.items()} for at in range(ATOMS)]


def _products(images: Tensor, texts: Tensor) -> Tensor:
    """Of each image with each text, (N, M): the best of an image's several."""
    return torch.stack([(texts @ image.reshape(-1, texts.shape[1]).T).amax(1) for image in images])


def _cross_entropy(logits: Tensor, soft: Tensor, alpha: float) -> Tensor:
    """Rows' targets are one-hot on the diagonal with what the momentum encoder finds mixed in."""
    target = alpha * soft.softmax(1)
    target = target + (1 - alpha) * torch.eye(*logits.shape)
    return -(target * logits.log_softmax(1)).sum(1).mean()


class Plain:
    """He et al. 2020, algorithm 1, with the targets of Li et al. 2021, equations 1, 2 and 6, without an engine."""

    def __init__(self, model: nn.Module, task: Any, warmup: int) -> None:
        self.model, self.task, self.warmup = copy.deepcopy(model), task, warmup
        self.slow = copy.deepcopy(model)
        self.images: list[Tensor] = []  # oldest first
        self.texts: list[Tensor] = []

    def step(self, batch: Batch, step: int) -> float:
        parts = [self.task.features({"model": self.model}, atom) for atom in _atoms(batch)]
        online = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if parts[0][name].dim()}
        with torch.no_grad():
            slow = self.slow(batch["image"], batch["tokens"], batch["attention_mask"])
            images = torch.stack([*slow["image_embeds"], *self.images])
            texts = torch.stack([*slow["text_embeds"], *self.texts])
        scale = parts[0]["logit_scale"]
        alpha = ALPHA * min(1.0, (step + 1) / (self.warmup + 1))
        to_texts, to_images = (
            _cross_entropy(
                scale * _products(online["image_embeds"], texts),
                scale.detach() * _products(slow["image_embeds"], texts),
                alpha,
            ),
            _cross_entropy(
                scale * _products(images, online["text_embeds"]).T,
                scale.detach() * _products(images, slow["text_embeds"]).T,
                alpha,
            ),
        )
        loss = (to_texts + to_images) / 2 + online["match_loss"].mean() + online["caption_loss"].mean()
        self._update(loss)
        self.images = [*self.images, *slow["image_embeds"]][-SIZE:]
        self.texts = [*self.texts, *slow["text_embeds"]][-SIZE:]
        return loss.item()

    def _update(self, loss: Tensor) -> None:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        with torch.no_grad():
            for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                parameter -= LR * gradient
            for slow, own in zip(self.slow.parameters(), self.model.parameters(), strict=True):
                slow.copy_(DECAY * slow + (1 - DECAY) * own)


@pytest.mark.parametrize("name", QUEUE)
def test_it_is_the_papers_algorithm(name: str) -> None:
    """Over several steps, the queue filling and then overflowing: losses, weights, the momentum encoder and the queue
    are those of the formulas. Atoms are replayed; the formulas take the batch at once.
    """
    subject = build(QUEUE[name])
    task: Any = subject.task
    plain = Plain(subject.model, task, task.distillation_warmup)
    engine, meter = _engine(subject), Meter(torch.device("cpu"))
    for step, batch in enumerate(_batches(subject)):
        expected = plain.step(batch, step)
        atoms = [Atom(index, 1 / ATOMS, part) for index, part in enumerate(_atoms(batch))]
        run_phase(engine, task, atoms, phase="main", step=step, meter=meter)
        engine.step("main", step)
        meter.steps += 1
        record, _ = meter.flush(step, cancelled=False)
        assert record["loss"] == pytest.approx(expected, rel=1e-5)
    queue: Any = subject.companions["queue"].module
    _close(subject.model, plain.model)
    _close(subject.companions["momentum"].module, plain.slow)
    for kept, wanted in ((queue.images, plain.images), (queue.texts, plain.texts)):
        torch.testing.assert_close(kept.flip(0), torch.stack(wanted), atol=1e-5, rtol=1e-4)
    moved = (subject.companions["momentum"].module.text_projection.weight - subject.model.text_projection.weight).abs()  # type: ignore[union-attr,operator]
    assert moved.max() > 1e-4


def _close(one: nn.Module, other: nn.Module) -> None:
    for (name, value), wanted in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def _rows(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


@pytest.mark.parametrize("rows", [2, 3, 5, 7])
def test_the_queue_holds_the_last_samples_in_the_order_of_the_plan(rows: int) -> None:
    """Five places, any size of a step, also a step larger than the queue."""
    queue, seen = FeatureQueue(5, (1,)), list[float]()
    assert [len(held) for held in queue.held()] == [0, 0]
    for step in range(4):
        new = [float(rows * step + place) for place in range(rows)]
        queue.push(_rows(*new), -_rows(*new))
        seen += new
        images, texts = queue.held()
        assert images[:, 0].tolist() == seen[::-1][:5]
        assert torch.equal(texts, -images)


def _features(count: int, kept: int, several: int | None = None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    of_images = (several, 4) if several else (4,)
    sizes: dict[str, tuple[int, ...]] = {
        "image_embeds": (count, *of_images),
        "text_embeds": (count, 4),
        "image_momentum": (count, *of_images),
        "text_momentum": (count, 4),
        "image_queue": (kept, *of_images),
        "text_queue": (kept, 4),
    }
    found = {name: F.normalize(torch.randn(*size), dim=-1) for name, size in sizes.items()}
    return {**found, "logit_scale": torch.tensor(10.0), "softness": torch.tensor(0.4)}


def test_without_memory_of_itself_it_is_the_plain_contrast() -> None:
    """An empty queue, hard targets and a momentum encoder that is the model."""
    features = _features(6, 0)
    features |= {f"{kind}_momentum": features[f"{kind}_embeds"] for kind in ("image", "text")}
    features["softness"] = torch.tensor(0.0)
    (found, report), (wanted, expected) = contrast_with_memory(features), contrast(features)
    for one, other in ((found, wanted), (report, expected)):
        assert {name: value.item() for name, value in one.items()} == pytest.approx(
            {name: value.item() for name, value in other.items()}, rel=1e-5
        )


@pytest.mark.parametrize("several", [None, 3])
def test_in_chunks_it_is_the_same_loss(several: int | None) -> None:
    found = []
    for chunk in (70, 16):
        features = _features(70, 40, several)
        trained = [features[name].requires_grad_() for name in ("image_embeds", "text_embeds", "logit_scale")]
        losses, report = contrast_with_memory(features, chunk)
        torch.stack(list(losses.values())).sum().backward()
        found.append([*losses.values(), *report.values(), *(value.grad for value in trained)])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"momentum": 0.9}, "without a queue, momentum, distillation and distillation_warmup would be ignored"),
        ({"queue_size": -1}, "queue_size and distillation_warmup must be at least 0, not -1 and 0"),
        ({"distillation_warmup": -3}, "at least 0, not 0 and -3"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\) and distillation in \[0, 1\], not 1.0 and 0.4"),
        ({"momentum": -0.1}, "not -0.1 and 0.4"),
        ({"distillation": 1.5}, "not 0.995 and 1.5"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Bootstrapped(**wrong)
