"""What a task is: an objective over named modules, in roles and phases.

A model knows shapes, a task knows losses, a trainer knows neither. A task is registered with what the spec's checks
need to know without torch: `@register_task("name", metrics=(...), reads=(...), phases=(...))`.

Batch keys: `image` (B, C, H, W) float32; `video` (B, C, T, H, W) float32; `features` (B, F) float32; `series` (B, C, T)
float32; `spectrogram` (B, 1, M, T) float32; `label` (B,) int64; `target` (B, K) float32 class probabilities where
labels are mixed; `tokens` (B, T) int64; `attention_mask` (B, T) bool, True = keep; `target_tokens` and
`target_attention_mask` of a text that is to be written; `mask` (B, H, W) int64 class numbers; `id` (B,) int64; `key`
(B,) int64, the bits of the sample's 64-bit random key (see augment/keys.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dlsvc.augment import keys
from dlsvc.errors import UsageError

if TYPE_CHECKING:
    from dlsvc.data.image_input import ImageInput
    from dlsvc.data.preprocess import Preprocess

Batch = dict[str, Tensor]
Modules = Mapping[str, nn.Module]
Losses = dict[str, Tensor]
Report = dict[str, Tensor]
Prediction = dict[str, Any]

# Black and white as a sigmoid gives them, and as a tanh does.
UNIT_RANGE, SIGNED_RANGE = (0.0, 1.0), (-1.0, 1.0)
# What a model of one input reads is the first of these that there is, and what goes with it.
INPUTS = ("image", "video", "features", "series", "spectrogram", "tokens")
# A mean of 127 / 255 is as good as a half.
_NEARLY = 4 / 255
_BESIDE = {"tokens": ("attention_mask",)}


class Metrics:
    """Sums over samples that merge exactly over uneven shards: float64 arrays that add, and a formula at the end.

    For metrics that need every sample at once (retrieval), `collect` keeps rows by sample id and `rows` gives them back
    in the order of their ids.
    """

    def __init__(self) -> None:
        self.sums: dict[str, np.ndarray] = {}
        self.collected: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, **values: Any) -> None:
        for name, value in values.items():
            array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, np.float64)
            self.sums[name] = self.sums[name] + array if name in self.sums else array

    def collect(self, ids: Tensor, **rows: Tensor) -> None:
        """Keep one row a sample, float32, under each name."""
        for name, value in rows.items():
            part = (ids.cpu().numpy(), value.detach().float().cpu().numpy())
            self.collected.setdefault(name, []).append(part)

    def rows(self, name: str) -> np.ndarray:
        """Every row collected under a name, in the order of the samples' ids."""
        ids, parts = zip(*self.collected[name], strict=True)
        return np.concatenate(parts)[np.argsort(np.concatenate(ids), kind="stable")]

    def merge(self, other: Metrics) -> None:
        self.add(**other.sums)
        for name, parts in other.collected.items():
            self.collected.setdefault(name, []).extend(parts)

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Metrics:
        """Of all batches, added in the order of their numbers."""
        whole = cls()
        for _, metrics in sorted(parts, key=lambda part: part[0]):
            whole.merge(metrics)
        return whole


# A batch's number in its split, and what was measured of it.
Part = tuple[int, Metrics]


@dataclass(frozen=True)
class Setting:
    """What a request may set of how its sample is made: a number from `least` to `most`. One that isn't the sample's
    `own` must be the same for all of a batch.
    """

    least: float
    most: float
    whole: bool = False
    own: bool = False


@dataclass(frozen=True)
class Companion:
    """A module that lives beside those that train: no gradient moves it, checkpoints keep it, no bundle has it.

    One that `follows` a module of the task, by role, has the same parameters and becomes their exponential average:
    after each step that trains the leader, p = decay * p + (1 - decay) * leader's (He et al. 2020, equation 2).
    Parameters only: buffers are the companion's own.
    """

    module: nn.Module
    follows: str | None = None
    decay: float = 0.0


NO_COMPANIONS: Mapping[str, Companion] = MappingProxyType({})


class Task:
    """Base of every objective. Subclasses give `losses` (or `features` and `coupled_losses`), `measure`, `compute` and
    `predict`.
    """

    phases: ClassVar[tuple[str, ...]] = ("main",)
    reads: ClassVar[tuple[str, ...]] = ()
    couples_samples: ClassVar[bool] = False
    makes_samples: ClassVar[bool] = False
    # Of how many samples an atom must be.
    least_atom: ClassVar[int] = 1
    # How ids of tokens read; whoever has the tokenizer sets it, for metrics that are of texts.
    read_tokens: Callable[[list[int]], str] = staticmethod(lambda ids: " ".join(map(str, ids)))

    @property
    def image_range(self) -> tuple[float, float] | None:
        """What black and white must be to the model; None: anything."""
        return None

    def misfits(self, data: Preprocess, model_args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Of data as it was fitted, and of a model of these (complete) arguments, what the task can't be learnt with:
        the spec's field, and what would be right.
        """
        if self.image_range is not None and data.image is not None:
            yield from _out_of_range(data.image, self.image_range)

    @property
    def makes_classes(self) -> bool:
        """Whether samples can be asked for by a label."""
        return False

    @property
    def makes_prompts(self) -> bool:
        """Whether samples can be asked for by a text."""
        return False

    @property
    def keeps_size(self) -> bool:
        """Whether `predict` takes images of any size, and shows them at a size that follows from it."""
        return False

    @property
    def writes(self) -> bool:
        """Whether predictions hold `written`, ids of tokens to be read as a text."""
        return False

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What a request may set of how its sample is made, by batch key."""
        return {}

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """The units that an engine wraps, by role name. Names prefix the parameter names in checkpoints, never in
        bundles.
        """
        return {"model": model}

    def companions(self, model: nn.Module) -> dict[str, Companion]:
        """What training needs beside the modules, by a role name of its own: a copy begins as the model is now. They
        are among the modules of `references`, `memory` and `remember`; evaluating and serving do without.
        """
        return {}

    def trainable(self, phase: str) -> str:
        """The name of the module that this phase trains."""
        return "model"

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        """Means over the batch: losses are summed and back-propagated, the report is only logged. Scalars, both."""
        raise NotImplementedError

    def features(self, modules: Modules, batch: Batch) -> dict[str, Tensor]:
        """For tasks with `couples_samples`: per-sample features (B, D), and shared scalars (0-d) that the loss
        needs.
        """
        raise NotImplementedError

    def coupled_losses(self, features: dict[str, Tensor]) -> tuple[Losses, Report]:
        """For tasks with `couples_samples`: the loss over the features of the whole global batch, in sample order; with
        them come the batch's `references` and the `memory`, which no gradient reaches.
        """
        raise NotImplementedError

    def references(self, modules: Modules, batch: Batch) -> dict[str, Tensor]:
        """For tasks with `couples_samples`: per-sample features (B, ...) by companions, computed once and without
        gradient.
        """
        return {}

    def memory(self, modules: Modules) -> dict[str, Tensor]:
        """What companions keep of earlier steps."""
        return {}

    def remember(self, modules: Modules, references: dict[str, Tensor]) -> None:
        """Let companions keep of a step's references, those of the whole global batch in sample order, what later steps
        need.
        """

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        """Add one evaluation batch's sums. Modules are in eval mode, gradients are off."""
        raise NotImplementedError

    def compute(self, metrics: Metrics) -> dict[str, float]:
        """The metrics of the merged sums."""
        raise NotImplementedError

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """One prediction a sample, of numbers, numpy arrays and lists: what evaluation and serving both call."""
        raise NotImplementedError

    def stream(self, modules: Modules, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """For tasks whose texts are served token by token: those of `predict`, one of each sample (B,) after the other,
        and whether it is the sample's last.
        """
        raise NotImplementedError

    def encode(self, modules: Modules, batch: Batch) -> Tensor:
        """For tasks with `encodes_once`: what frozen modules make of each image, whatever is drawn of it later,
        (B, ...) float32. Computed once for a whole run, it is a batch's `encoded`, and there are no images then.
        """
        raise NotImplementedError

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        """Each sample as one vector, (B, D), for finding what is near: by default the model's `encode`. Raises
        UsageError for a model that has none.
        """
        encode = getattr(modules["model"], "encode", None)
        if encode is None:
            raise UsageError(f"{type(modules['model']).__name__} doesn't make a vector of a sample")
        vectors: Tensor = encode(*model_inputs(batch))
        return vectors.flatten(1).float()

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        """Named grids for the report: (N, H, W, C) arrays in [0, 1]. None by default."""
        return {}

    def samples(self, modules: Modules, batch: Batch) -> list[dict[str, str | np.ndarray]]:
        """For the report, what came of single samples, a row each: texts, and images (H, W, C) in [0, 1]. None by
        default.
        """
        return []

    def read(self, rows: Tensor) -> list[str]:
        """What rows of ids of tokens (B, T) say."""
        return [self.read_tokens(row.tolist()) for row in rows.cpu()]

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        """A batch for a model of these (complete) arguments, made without data from torch's global generator."""
        raise NotImplementedError


def _out_of_range(image: ImageInput, wanted: tuple[float, float]) -> Iterator[tuple[str, str]]:
    """Whether some channel's black or white is something else than what is wanted."""
    pairs = [
        (image.mean[place % len(image.mean)], image.std[place % len(image.std)]) for place in range(image.channels)
    ]
    for mean, std in pairs:
        found = (0 - mean) / std, (1 - mean) / std
        if max(abs(one - other) for one, other in zip(found, wanted, strict=True)) > _NEARLY:
            low, high = wanted
            right = f"mean [{(0 - low) / (high - low):g}] and std [{1 / (high - low):g}]"
            yield (
                "data.image",
                f"images come in [{found[0]:.3g}, {found[1]:.3g}] by mean {mean:g} and std {std:g}, and the task needs "
                f"them in [{low:g}, {high:g}]; give {right} for each channel",
            )
            return


def model_inputs(batch: Batch) -> list[Tensor]:
    """What a model of one input reads, and what goes with it. Raises UsageError when the batch has none."""
    first = next((name for name in INPUTS if name in batch), None)
    if first is None:
        raise UsageError(
            f"the model reads {', '.join(INPUTS[:-1])} or {INPUTS[-1]}, and the data gives none of them; sounds need "
            "data.audio, texts data.text"
        )
    return [batch[name] for name in (first, *_BESIDE.get(first, ()))]


def sample_normal(batch: Batch, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise that belongs to the samples: (B, *shape) float32 on the batch's device."""
    key = batch["key"]
    words = key.cpu().numpy().view(np.uint64)
    return torch.from_numpy(keys.normal(keys.derive(words, stream), shape)).to(key.device)


def sample_uniform(batch: Batch, stream: str) -> Tensor:
    """A number in [0, 1) that belongs to each sample: (B,) float64 on the batch's device."""
    words = batch["key"].cpu().numpy().view(np.uint64)
    return torch.from_numpy(keys.uniform(keys.derive(words, stream))).to(batch["key"].device)


def dummy_samples(num_samples: int) -> Batch:
    """What every batch holds of its samples: `id` and `key`."""
    ids = np.arange(num_samples, dtype=np.int64)
    words = keys.sample_keys(0, np.zeros_like(ids), ids)
    return {"id": torch.from_numpy(ids), "key": torch.from_numpy(words.view(np.int64))}


def stretched(images: Tensor) -> Tensor:
    """Normalised images (B, C, H, W) to [0, 1], each by its own range: a task doesn't know the mean and deviation.
    Several a sample, (B, N, C, H, W), stand in a line, (B, C, H, N * W).
    """
    if images.ndim == 5:
        return torch.cat(list(stretched(images.flatten(0, 1)).unflatten(0, images.shape[:2]).unbind(1)), dim=-1)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-6)


def in_colour(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 3, H, W), in grey unless there are three channels."""
    return images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def as_pictures(images: Tensor) -> np.ndarray:
    """(B, C, H, W) in [0, 1] -> (B, H, W, C) float32 on the CPU."""
    return images.detach().float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
