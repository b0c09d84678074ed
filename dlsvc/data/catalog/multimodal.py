"""Pictures with words: captions and questions."""

from __future__ import annotations

from dlsvc.data.catalog.facts import CatalogEntry, Package
from dlsvc.data.catalog.vision import TUXPAINT

# The label is the emoji's group, so that this set classifies too.
EMOJI = CatalogEntry(
    name="emoji",
    title="Emoji in three drawings, 64x64, with captions",
    modality="image-text",
    classes=(
        "smileys & emotion",
        "people & body",
        "components",
        "animals & nature",
        "food & drink",
        "travel & places",
        "activities",
        "objects",
        "symbols",
        "flags",
    ),
    image_size=64,
    channels=3,
    mean=(0.8123, 0.7601, 0.7218),
    std=(0.2903, 0.2880, 0.3340),
    counts={"train": 5102, "test": 572},
    split_rule="an emoji is in the test split, in all drawings, when crc32 of its code points divides by 10",
    licence="MIT (Fluent 3D drawings; names and groups), Apache-2.0 (Noto drawings), CC BY 4.0 (Twemoji drawings)",
    attribution="Fluent Emoji, Microsoft, MIT; Noto Emoji, Google, Apache-2.0; "
    "Twemoji, Twitter and other contributors, CC BY 4.0; names: Unicode CLDR by way of emojibase, MIT",
    version="1",
    packages=(
        Package(
            "npm",
            "emojibase-data",
            "17.0.0",
            "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
            6711091,
        ),
        Package(
            "npm",
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            15792027,
        ),
        Package(
            "npm",
            "emoji-datasource-google",
            "16.0.0",
            "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
            74344091,
        ),
        Package(
            "npm",
            "emoji-datasource-twitter",
            "16.0.0",
            "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
            61683754,
        ),
    ),
)

STAMPS = CatalogEntry(
    name="stamps",
    title="Stamps: cut-out photographs and drawings, 64x64, with a sentence and a category",
    modality="image-text",
    classes=(
        "animals",
        "clothes",
        "food",
        "hobbies",
        "household",
        "medical",
        "military",
        "naturalforces",
        "people",
        "plants",
        "seasonal",
        "space",
        "sports",
        "symbols",
        "town",
        "vehicles",
    ),
    image_size=64,
    channels=3,
    mean=(0.8278, 0.7918, 0.7602),
    std=(0.2814, 0.3112, 0.3499),
    counts={"train": 473, "test": 67},
    split_rule="a stamp is in the test split when crc32 of its file name divides by 10",
    licence="GPL-2",
    attribution="Tux Paint stamps, Bill Kendrick and contributors, GPL-2",
    version="2022.06.04",
    packages=(TUXPAINT,),
)

_EASY_VQA_PACKAGE = Package(
    "pip", "easy-vqa", "1.0", "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f", 3215672
)
EASY_VQA = CatalogEntry(
    name="easy-vqa",
    title="easy-VQA: 48,248 questions about 5,000 drawn shapes, 64x64",
    modality="vqa",
    classes=(
        "circle",
        "green",
        "red",
        "gray",
        "yes",
        "teal",
        "black",
        "rectangle",
        "yellow",
        "triangle",
        "brown",
        "blue",
        "no",
    ),
    image_size=64,
    channels=3,
    mean=(0.9049, 0.9059, 0.8969),
    std=(0.1927, 0.1856, 0.2050),
    counts={"train": 38575, "test": 9673},
    split_rule="the official split",
    licence="MIT",
    attribution="easy-VQA, Victor Zhou, MIT",
    version="1.0",
    packages=(_EASY_VQA_PACKAGE,),
)

SHAPES = CatalogEntry(
    name="shapes",
    title="5,000 drawn shapes, 64x64, with captions made of easy-VQA's questions and answers",
    modality="image-text",
    image_size=64,
    channels=3,
    mean=EASY_VQA.mean,
    std=EASY_VQA.std,
    counts={"train": 3961, "test": 984},
    split_rule="the official split, without the 55 images of which no answer says anything",
    licence="MIT",
    attribution=EASY_VQA.attribution,
    version="1.0",
    packages=(_EASY_VQA_PACKAGE,),
)

SHAPE_PAIRS = CatalogEntry(
    name="shape-pairs",
    title="conversations about two of easy-VQA's drawings each, 64x64",
    modality="conversation",
    image_size=64,
    channels=3,
    mean=EASY_VQA.mean,
    std=EASY_VQA.std,
    counts={"train": 7420, "test": 1840},
    split_rule="the official split; each image of a known colour comes first twice",
    licence="MIT",
    attribution=EASY_VQA.attribution,
    version="1.0",
    packages=(_EASY_VQA_PACKAGE,),
)

ENTRIES = (EMOJI, STAMPS, EASY_VQA, SHAPES, SHAPE_PAIRS)
