"""A list of augmentations, compiled: all geometry becomes one matrix and one interpolation, all colour one affine map,
in one pass over the pixels; noise, blur and the like follow in their order; patches lie over the end.

It differs from a chain, one operation after the other, in this: geometry comes before colour, and patches last,
whatever the list's order; a value is cut to [0, 255] and rounded once, at the end, where a chain does it after every
operation; contrast takes the mean of the image as it was read, not of what geometry left of it; and what geometry
would push out of the image and back in again is still there. Interpolating once leaves the image sharper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import colour as colours
from dlsvc.augment import geometry
from dlsvc.augment import keys as random

Samples = dict[str, Any]
Step = tuple[int, Any]


@dataclass(frozen=True)
class Pipeline:
    """Augmentations in the order of a spec's list; each draws from a stream of its own place in it."""

    augmentations: tuple[Any, ...] = ()

    @property
    def changes_images(self) -> bool:
        return bool(self._having("matrix") or self._having("colour") or self._having("apply") or self._having("cover"))

    def apply(self, samples: Mapping[str, Any], keys: random.Keys) -> Samples:
        """New samples; images and films stay uint8."""
        found = self._others(samples, keys)
        if self.changes_images and "image" in samples:
            found["image"] = self._rounded(*_one_by_one(samples["image"], keys)).reshape(samples["image"].shape)
        return found

    def apply_normalised(
        self, samples: Mapping[str, Any], keys: random.Keys, mean: Sequence[float], std: Sequence[float]
    ) -> Samples:
        """New samples; images as (B, C, H, W) float32, (value / 255 - mean) / std, not rounded in between. Several
        of a sample (B, N, ...) share its draws.
        """
        found = self._others(samples, keys)
        if self.changes_images and "image" in samples:
            images = samples["image"]
            whole = self._normalised(*_one_by_one(images, keys), mean, std)
            found["image"] = whole.reshape(*images.shape[:-3], *whole.shape[1:])
        return found

    def apply_spectrograms(self, spectrograms: NDArray[np.float32], keys: random.Keys) -> NDArray[np.float32]:
        """(B, 1, M, T), after the sounds have become pictures -> the same shape."""
        for place, one in self._having("apply_spectrogram"):
            spectrograms = one.apply_spectrogram(spectrograms, _keys_at(keys, place))
        return spectrograms

    @property
    def mixes(self) -> bool:
        return bool(self._having("mix"))

    def mix(
        self,
        one: tuple[NDArray[np.float32], NDArray[np.float32]],
        other: tuple[NDArray[np.float32], NDArray[np.float32]],
        keys: random.Keys,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images (B, C, H, W) and class probabilities (B, K), mixed with those of the partners."""
        for place, mixture in self._having("mix"):
            one = mixture.mix(*one, *other, _keys_at(keys, place))
        return one

    def _having(self, method: str) -> list[Step]:
        return [(place, one) for place, one in enumerate(self.augmentations) if hasattr(one, method)]

    def _others(self, samples: Mapping[str, Any], keys: random.Keys) -> Samples:
        """Everything but images: masks and boxes after the geometry, films as images whose frames share their draws,
        texts and sounds by their own operations.
        """
        found = dict(samples)
        if self._having("matrix") and samples.keys() & {"mask", "boxes"}:
            size = next(samples[name].shape[1:3] for name in ("image", "mask") if name in samples)
            matrix = self._matrix(keys, size)
            if "mask" in samples:
                found["mask"] = _moved_masks(samples["mask"], matrix)
            if "boxes" in samples:
                found["boxes"] = geometry.move_boxes(samples["boxes"], matrix, size)
        if self.changes_images and "video" in samples:
            found["video"] = self._rounded(*_one_by_one(samples["video"], keys)).reshape(samples["video"].shape)
        for kind in ("text", "audio"):
            if kind in samples:
                for place, one in self._having(f"apply_{kind}"):
                    found[kind] = getattr(one, f"apply_{kind}")(found[kind], _keys_at(keys, place))
        return found

    def _matrix(self, keys: random.Keys, size: tuple[int, int]) -> geometry.Matrices:
        steps = self._having("matrix")
        return geometry.compose([one.matrix(_keys_at(keys, place), size) for place, one in steps], len(keys))

    def _colour(self, images: NDArray[np.uint8], keys: random.Keys) -> NDArray[np.float32]:
        whole, steps = colours.identity(len(images), images.shape[-1]), self._having("colour")
        if steps:
            mean = _means(images)
            for place, one in steps:
                whole = colours.chain(whole, one.colour(_keys_at(keys, place), colours.mapped(whole, mean)))
        return whole.astype(np.float32)

    def _rounded(self, images: NDArray[np.uint8], keys: random.Keys) -> NDArray[np.uint8]:
        whole = self._covered(self._float_images(images, keys), keys, 0.0)
        return np.clip(np.rint(whole), 0, 255).astype(np.uint8)

    def _float_images(self, images: NDArray[np.uint8], keys: random.Keys) -> NDArray[np.float32]:
        """(B, H, W, C) float32 in [0, 255], before patches."""
        out = np.empty(images.shape, np.float32)
        one, none = np.ones(images.shape[-1], np.float32), np.zeros(images.shape[-1], np.float32)
        self._warp(images, keys, one, none, out.transpose(0, 3, 1, 2))
        for place, one in self._having("apply"):
            out = one.apply(out, _keys_at(keys, place))
        return np.clip(out, 0, 255)

    def _normalised(
        self, images: NDArray[np.uint8], keys: random.Keys, mean: Sequence[float], std: Sequence[float]
    ) -> NDArray[np.float32]:
        channels = images.shape[-1]
        centre, spread = (np.resize(np.asarray(values, np.float64), channels) for values in (mean, std))
        scale, offset = (1 / (255 * spread)).astype(np.float32), (-centre / spread).astype(np.float32)
        if self._having("apply"):
            whole = self._covered(self._float_images(images, keys), keys, 0.0)
            return np.ascontiguousarray((whole * scale + offset).transpose(0, 3, 1, 2))
        out = np.empty((len(images), channels, *images.shape[1:3]), np.float32)
        self._warp(images, keys, scale, offset, out)
        self._covered(out.transpose(0, 2, 3, 1), keys, offset)
        return out

    def _warp(
        self,
        images: NDArray[np.uint8],
        keys: random.Keys,
        scale: NDArray[np.float32],
        offset: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> None:
        # Compiled at first use: listing and checking augmentations must not wait for it.
        from dlsvc.augment.kernels import warp

        source = np.ascontiguousarray(images)
        warp(source, self._matrix(keys, images.shape[1:3]), self._colour(source, keys), scale, offset, out)

    def _covered(self, images: NDArray[np.float32], keys: random.Keys, fill: Any) -> NDArray[np.float32]:
        """Patches laid over (B, H, W, C) in place."""
        for place, one in self._having("cover"):
            patches = one.cover(_keys_at(keys, place), images.shape[1:3])
            for number in np.flatnonzero(patches[:, 2] > patches[:, 0]).tolist():
                y1, x1, y2, x2 = patches[number].tolist()
                images[number, y1:y2, x1:x2] = fill
        return images


def _means(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(B, C) mean colours; numpy takes longer for them than the whole warp."""
    from dlsvc.augment.kernels import colour_sums

    sums = np.zeros((len(images), images.shape[-1]), np.int64)
    colour_sums(images, sums)
    mean: NDArray[np.float64] = sums / (images.shape[1] * images.shape[2])
    return mean


def _one_by_one(images: NDArray[np.uint8], keys: random.Keys) -> tuple[NDArray[np.uint8], random.Keys]:
    """The images of samples that have several (B, N, H, W, C), such as frames, and for each its sample's key."""
    if images.ndim == 4:
        return images, keys
    return images.reshape(-1, *images.shape[2:]), np.repeat(keys, images.shape[1])


def _moved_masks(masks: NDArray[np.uint8], matrix: geometry.Matrices) -> NDArray[np.uint8]:
    from dlsvc.augment.kernels import warp_nearest

    out = np.empty_like(masks)
    warp_nearest(np.ascontiguousarray(masks), matrix, out)
    return out


def _keys_at(keys: random.Keys, place: int) -> random.Keys:
    return random.derive(keys, f"augment/{place}")
