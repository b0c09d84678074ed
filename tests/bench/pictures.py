"""A folder of pictures as atoms, in a file of its own: whoever builds them elsewhere imports it, and nothing heavy."""

from __future__ import annotations

from pathlib import Path

from dlsvc.augment.geometry import HorizontalFlip
from dlsvc.augment.pipeline import Pipeline
from dlsvc.data.atom import AtomBuilder
from dlsvc.data.image_input import ImageInput
from dlsvc.data.order import Shuffled
from dlsvc.data.plan import Plan
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.quarantine import Quarantine
from dlsvc.data.source import open_source
from dlsvc.spec.data_sections import DataSpec

BATCH, SIDE = 64, 128
MEAN = STD = (0.5, 0.5, 0.5)


def image_folder(path: Path, home: Path) -> AtomBuilder:
    """Decoded, resized to 128 pixels, flipped and normalised."""
    table = open_source(DataSpec(source=str(path)), home).table("train")
    preprocess = Preprocess(image=ImageInput(SIDE, 3, MEAN, STD))
    plan, flip = Plan(0, Shuffled(len(table)), BATCH, BATCH), Pipeline((HorizontalFlip(),))
    return AtomBuilder(plan, table, preprocess, Quarantine(len(table), 0), flip)
