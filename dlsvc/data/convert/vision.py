"""Pictures: garments, composites with exact masks, nuclei, patches of photographs."""

from __future__ import annotations

import functools
import gzip
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlsvc.augment import keys
from dlsvc.data.catalog import CatalogEntry, held_out
from dlsvc.data.codecs import Pixels
from dlsvc.data.convert.rows import Converter, Read, Rows, opened, split_of
from dlsvc.data.convert.stamps import Stamp, stamps

_TEST_PHOTOS = {"chelsea.png", "flower.jpg", "Dune.jpg", "LadyBird.jpg"}
_PATCH, _LARGEST = 96, 1280

_SCENE, _OBJECTS, _GROUND_DRAWS = 96, 2, 4
# Objects take between these shares of a scene's side.
_SMALLEST_SHARE, _LARGEST_SHARE = 0.35, 0.7

# (label, that category's objects), in the order of the labels.
Groups = Sequence[tuple[int, Sequence[Image.Image]]]

_CROP = 64
_TRAIN_STRIDE = 16


def _fashion_mnist(entry: CatalogEntry, read: Read) -> Rows:
    found = read("dataset-fashion-mnist", lambda name: name.endswith(".gz"))
    files = {PurePosixPath(name).name: content for name, content in found}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        labels = _idx(files[f"{prefix}-labels-idx1-ubyte.gz"])
        images = _idx(files[f"{prefix}-images-idx3-ubyte.gz"])
        for label, image in zip(labels, images, strict=True):
            yield split, {"label": int(label), "image": image}


def _idx(packed: bytes) -> Pixels:
    """LeCun's IDX format: two zero bytes, a type, the number of axes, their lengths, the values."""
    content = gzip.decompress(packed)
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _photographs(read: Read) -> Iterator[tuple[bool, Image.Image]]:
    """(held out, RGB photograph of at most 1,280 pixels a side), in the order of their names in each package."""
    for package, folder in (
        ("scikit-image", "skimage/data/"),
        ("scikit-learn", "sklearn/datasets/images/"),
        ("mate-backgrounds", "backgrounds/mate/nature/"),
    ):
        for name, content in sorted(read(package, functools.partial(_is_photograph, folder))):
            image = opened(content, "RGB")
            image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BICUBIC)
            yield PurePosixPath(name).name in _TEST_PHOTOS, image


def _is_photograph(folder: str, name: str) -> bool:
    """Of scikit-image's wheel only the pinned pictures: the rest are drawings, textures and grey."""
    chosen = {
        "astronaut.png",
        "coffee.png",
        "chelsea.png",
        "rocket.jpg",
        "hubble_deep_field.jpg",
        "motorcycle_left.png",
        "ihc.png",
        "retina.jpg",
    }
    path = PurePosixPath(name)
    return folder in name and (path.name in chosen if folder.startswith("skimage") else path.suffix == ".jpg")


def _photos(entry: CatalogEntry, read: Read) -> Rows:
    for test, image in _photographs(read):
        pixels = np.asarray(image)
        for top in range(0, image.height - _PATCH + 1, _PATCH):
            for left in range(0, image.width - _PATCH + 1, _PATCH):
                yield split_of(test), {"image": pixels[top : top + _PATCH, left : left + _PATCH]}


def _stamps_scenes(entry: CatalogEntry, read: Read) -> Rows:
    """Categories are drawn evenly, for there are eight times as many animals as vehicles."""
    cut_outs = [stamp for stamp in stamps(read) if stamp.category in entry.classes and not stamp.is_cartoon]
    photographs = list(_photographs(read))
    for split, count in entry.counts.items():
        here = [stamp for stamp in cut_outs if split_of(held_out(stamp.file_name)) == split]
        grounds = [image for test, image in photographs if split_of(test) == split]
        ids = np.arange(count, dtype=np.int64)
        draws = keys.uniform(keys.derive(keys.sample_keys(0, ids * 0, ids), split), (_GROUND_DRAWS + 5 * _OBJECTS,))
        groups = _by_label(here, entry.classes)
        for draw in draws:
            image, mask = _scene(groups, grounds, draw)
            yield split, {"image": image, "mask": mask}


def _by_label(cut_outs: Sequence[Stamp], classes: Sequence[str]) -> Groups:
    """Each category's objects, small enough to keep them all at hand: twice as large as a scene."""
    groups: dict[int, list[Image.Image]] = defaultdict(list)
    for stamp in cut_outs:
        image = opened(stamp.picture)
        image.thumbnail((2 * _SCENE, 2 * _SCENE), Image.Resampling.BICUBIC)
        groups[classes.index(stamp.category)].append(image)
    return sorted(groups.items(), key=lambda group: group[0])


def _scene(groups: Groups, grounds: Sequence[Image.Image], draw: NDArray[np.float64]) -> tuple[Pixels, Pixels]:
    """(96, 96, 3) and its mask (96, 96) from uniform numbers: four for the ground, five for each object."""
    scene = _ground(grounds, *draw[:_GROUND_DRAWS])
    mask = np.zeros((_SCENE, _SCENE), np.uint8)
    numbers = draw[_GROUND_DRAWS:].reshape(_OBJECTS, 5)
    for place, (_, which, share, across, down) in zip(_distinct(numbers[:, 0], len(groups)), numbers, strict=True):
        label, images = groups[place]
        cut_out = images[int(which * len(images))].copy()
        side = (_SMALLEST_SHARE + share * (_LARGEST_SHARE - _SMALLEST_SHARE)) * _SCENE
        cut_out.thumbnail((side, side), Image.Resampling.BICUBIC)
        left, top = int(across * (_SCENE - cut_out.width + 1)), int(down * (_SCENE - cut_out.height + 1))
        scene.paste(cut_out, (left, top), cut_out)
        inside = np.asarray(cut_out)[..., 3] > 127
        mask[top : top + cut_out.height, left : left + cut_out.width][inside] = label
    return np.asarray(scene), mask


def _ground(grounds: Sequence[Image.Image], which: float, share: float, across: float, down: float) -> Image.Image:
    """A square of a photograph, anywhere between a scene's size and the largest that fits."""
    image = grounds[int(which * len(grounds))]
    side = _SCENE + int(share * (min(image.size) - _SCENE + 1))
    left, top = int(across * (image.width - side + 1)), int(down * (image.height - side + 1))
    return image.resize((_SCENE, _SCENE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def _distinct(draw: NDArray[np.float64], count: int) -> list[int]:
    """Different places below `count`, one a number: each is drawn from those that are left."""
    left = list(range(count))
    return [left.pop(int(number * len(left))) for number in draw]


def _nuclei(entry: CatalogEntry, read: Read) -> Rows:
    """Nuclei are numbered in the package's mask; here they are all 1. The picture has 16 bits, of which it uses 8."""
    files = {PurePosixPath(name).name: content for name, content in read("stardist", lambda name: "2d.tif" in name)}
    image, numbers = (_grey(files[name]) for name in ("img2d.tif", "mask2d.tif"))
    middle = image.shape[1] // 2
    for split, first, stride in (("train", 0, _TRAIN_STRIDE), ("test", middle, _CROP)):
        for top in range(0, image.shape[0] - _CROP + 1, stride):
            for left in range(first, first + middle - _CROP + 1, stride):
                here = slice(top, top + _CROP), slice(left, left + _CROP)
                yield split, {"image": image[here], "mask": (numbers[here] > 0).astype(np.uint8)}


def _grey(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image).astype(np.uint8)


CONVERTERS: dict[str, Converter] = {
    "fashion-mnist": _fashion_mnist,
    "stamps-scenes": _stamps_scenes,
    "nuclei": _nuclei,
    "photos": _photos,
}
