"""Both feeds against what people use today, paired in one run."""

from __future__ import annotations

import functools
import io
import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from dlsvc.augment.colour import ColourJitter
from dlsvc.augment.geometry import HorizontalFlip, RandomResizedCrop, Rotation
from dlsvc.augment.pipeline import Pipeline
from dlsvc.data.atom import AtomBuilder
from dlsvc.data.codecs import decode_image
from dlsvc.data.feed_resident import resident_feed
from dlsvc.data.feed_stream import PlannedData, StreamSource, stream_feed
from dlsvc.data.image_input import ImageInput
from dlsvc.data.order import Shuffled
from dlsvc.data.plan import Plan
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.quarantine import Quarantine
from dlsvc.data.source import open_source
from dlsvc.data.table import ResidentTable
from dlsvc.spec.data_sections import DataSpec, StreamSpec
from tests.bench.pictures import BATCH, MEAN, SIDE, STD, image_folder

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
JPEGS = 4000
EPOCHS = 3


def batches_per_second(batches: Iterable[Any], count: int) -> float:
    """Of `count` batches after the first, which waits for processes to start."""
    each = iter(batches)
    next(each)
    began = time.perf_counter()
    for _ in range(count):
        next(each)
    return count / (time.perf_counter() - began)


def emoji_32(home: Path) -> dict[str, np.ndarray]:
    """Real pictures, decoded once: (N, 32, 32, 3) uint8."""
    rows = open_source(DataSpec(source="emoji"), home).table("train").rows(np.arange(1024))
    return {"image": np.stack([decode_image(each, 3, 32) for each in rows["image"]]), "label": rows["label"]}


class PerSample(torch.utils.data.Dataset[torch.Tensor]):
    """The same work as people write it, one image at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        draws = np.random.default_rng(index)
        image, size = Image.fromarray(self.images[index]), self.images.shape[1]
        side = int(size * draws.uniform(0.55, 1))
        left, top = draws.integers(0, size - side + 1, 2).tolist()
        image = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.random() < 0.5 else image
        image = image.rotate(draws.uniform(-15, 15), Image.Resampling.BILINEAR)
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = change(image).enhance(draws.uniform(0.7, 1.3))
        return torch.from_numpy((np.asarray(image, np.float32) / 255 - 0.5) / 0.5).permute(2, 0, 1)


def test_resident_feed_against_dataloader(home: Path) -> None:
    columns = emoji_32(home)
    loader = torch.utils.data.DataLoader(
        PerSample(np.tile(columns["image"], (8, 1, 1, 1))), BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    theirs = BATCH * batches_per_second(loader, 100)
    steps = (RandomResizedCrop(0.3), HorizontalFlip(), Rotation(15), ColourJitter(0.3, 0.3, 0.3))
    builder = AtomBuilder(
        Plan(0, Shuffled(1024), BATCH, BATCH),
        ResidentTable(columns),
        Preprocess(image=ImageInput(32, 3, MEAN, STD)),
        Quarantine(1024, 0),
        Pipeline(steps),
    )
    ours = BATCH * batches_per_second(resident_feed(builder, start=0, stop=2000, rank=0, world_size=1, threads=2), 1500)
    print(
        f"\n32 px: {ours:,.0f} images/s resident, {theirs:,.0f} by DataLoader of 2 processes: {ours / theirs:.1f} times"
    )


@pytest.fixture(scope="module")
def jpegs(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of real photographs, enlarged, 160 x 160, as files in two folders."""
    folder, draws = tmp_path_factory.mktemp("jpegs"), np.random.default_rng(0)
    rows = open_source(DataSpec(source="photos"), home).table("train").rows(np.arange(0, 1500, 10))
    photos = [Image.open(io.BytesIO(each)).convert("RGB").resize((288, 288)) for each in rows["image"]]
    for kind in ("left", "right"):
        (folder / kind).mkdir()
    for number in range(JPEGS):
        photo = photos[number % len(photos)]
        left, top = (int(draws.integers(0, length - 160)) for length in photo.size)
        photo.crop((left, top, left + 160, top + 160)).save(folder / ("left", "right")[number % 2] / f"{number}.jpg")
    return folder


def stock(path: Path, *, shuffle: bool) -> Iterator[torch.Tensor]:
    """As Ray's guides write it; shuffled over all rows, as ours is, or within a buffer of ten batches."""
    import ray

    def finish(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = batch["image"]
        flip = np.random.default_rng(0).random(len(images)) < 0.5
        images = np.where(flip[:, None, None, None], images[:, :, ::-1], images)
        return {"image": ((images.astype(np.float32) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2)}

    read = ray.data.read_images(str(path), size=(SIDE, SIDE), mode="RGB")
    whole = (read.random_shuffle() if shuffle else read).map_batches(finish)
    buffer = None if shuffle else 10 * BATCH
    for batch in whole.iter_torch_batches(batch_size=BATCH, drop_last=True, local_shuffle_buffer_size=buffer):
        yield batch["image"]


@pytest.mark.usefixtures("ray_cluster")
def test_stream_against_ray_data(jpegs: Path, home: Path) -> None:
    """Over some epochs: ours go on without a seam; a data set of Ray's is iterated once for each."""
    count = JPEGS // BATCH
    make = functools.partial(image_folder, jpegs, home)
    plan = make().plan

    def stream(steps: int) -> Iterator[Any]:
        source = StreamSource(plan, steps, make, lambda: 0, print, StreamSpec(actors=2))
        return stream_feed(PlannedData(source).configure({}, 1)[0]["train"], 0)

    def speeds(epochs: Iterable[Iterator[Any]], batches: int) -> tuple[float, float]:
        """Images a second over the whole, and after the very first batch."""
        began, first, seen = time.perf_counter(), 0.0, 0
        for _ in itertools.chain.from_iterable(epochs):
            first, seen = first or time.perf_counter(), seen + 1
        ended = time.perf_counter()
        assert seen == batches
        return BATCH * batches / (ended - began), BATCH * (batches - 1) / (ended - first)

    speeds([stream(count)], count)  # files in the page cache, processes started
    ours = speeds([stream(EPOCHS * count)], EPOCHS * count)
    files = [file.read_bytes() for file in sorted(jpegs.rglob("*.jpg"))[:1000]]
    began = time.perf_counter()
    for file in files:
        decode_image(file, 3, SIDE)
    decode = 2 * len(files) / (time.perf_counter() - began)
    print(f"\n{EPOCHS} epochs of {JPEGS} JPEGs, images/s over all and after the first batch:")
    print(f"our stream {ours[0]:,.0f}, {ours[1]:,.0f}: {ours[1] / decode:.0%} of decoding alone on 2 cores")
    for shuffle in (True, False):
        theirs = speeds((stock(jpegs, shuffle=shuffle) for _ in range(EPOCHS)), EPOCHS * count)
        ratios = f"{ours[0] / theirs[0]:.1f} and {ours[1] / theirs[1]:.1f} times"
        print(f"read_images + map_batches, {shuffle=}: {theirs[0]:,.0f}, {theirs[1]:,.0f}; ours is {ratios}")


def test_memory_of_an_atom(jpegs: Path, home: Path) -> None:
    builder = image_folder(jpegs, home)
    atom = builder.build(0, 0)
    tracemalloc.start()
    builder.build(1, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(array.nbytes for array in atom.values())
    print(f"\nan atom of {size / 2**20:.1f} MiB is built within {peak / size:.2f} times its size")


class Counted:
    """Atoms of 3 MiB, written down as they are built."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def build(self, step: int, atom: int) -> dict[str, np.ndarray]:
        return self.build_all([(step, atom)])

    def build_all(self, places: list[tuple[int, int]]) -> dict[str, np.ndarray]:
        with self.log.open("a") as stream:
            stream.write("." * len(places))
        return {"image": np.full((16 * len(places), 3, SIDE, SIDE), places[0][0], np.float32)}


class Stalled:
    """Takes one atom, and no more."""

    def __init__(self, shard: Any) -> None:
        self.feed = stream_feed(shard, 0)

    def first(self) -> None:
        next(self.feed)


@pytest.mark.usefixtures("ray_cluster")
def test_memory_with_a_stalled_consumer(tmp_path: Path) -> None:
    import ray

    log = tmp_path / "built"
    plan = Plan(0, Shuffled(100_000), BATCH, 16)
    source = StreamSource(plan, 3000, functools.partial(Counted, log), lambda: 0, print, StreamSpec())
    shard = PlannedData(source).configure({}, 1)[0]["train"]
    consumer = ray.remote(Stalled).remote(shard)
    ray.get(consumer.first.remote())
    store = ray.cluster_resources()["object_store_memory"]
    built = _settled(lambda: log.stat().st_size)
    ray.kill(consumer)
    held = built * 16 * 3 * SIDE * SIDE * 4
    print(f"\nstalled consumer: {held / 2**20:,.0f} MiB wait for it, {held / store:.0%} of the object store")
    assert held < 0.6 * store


def _settled(measure: Callable[[], int], patience_s: float = 6.0) -> int:
    """A measure that no longer changes."""
    last, since = measure(), time.monotonic()
    while time.monotonic() - since < patience_s:
        time.sleep(0.2)
        if (now := measure()) != last:
            last, since = now, time.monotonic()
    return last
