"""Signals in time: speech, short films, motion sensors."""

from __future__ import annotations

from dlsvc.data.catalog.facts import CatalogEntry, Package

_PROMPTS = {
    "en": ("2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d", 18272864),
    "es": ("9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903", 23767256),
    "fr": ("8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e", 18516060),
    "it": ("5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb", 18262124),
    "ru": ("ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201", 18788860),
}

ASTERISK = CatalogEntry(
    name="asterisk",
    title="Telephone prompts in five languages, 8 kHz, one voice a language",
    modality="audio",
    classes=tuple(_PROMPTS),
    sample_rate=8000,
    channels=1,
    counts={"train": 2488, "test": 293},
    split_rule="a prompt is in the test split, in every language, when crc32 of its name divides by 10",
    licence="CC BY-SA 3.0; the Russian prompts CC BY 3.0",
    attribution="Asterisk core sounds 1.6.1: Allison Smith (en, es), June Wallack (fr), Carlo Flora (it), "
    "CC BY-SA 3.0; Maxim Topal, ivrvoice.ru (ru), CC BY 3.0; financed by Digium and others",
    version="1.6.1",
    packages=tuple(
        Package("apt", f"asterisk-core-sounds-{language}-wav", "1.6.1-1", sha256, nbytes)
        for language, (sha256, nbytes) in _PROMPTS.items()
    ),
)

WESNOTH = CatalogEntry(
    name="wesnoth",
    title="Animations of Wesnoth's units, 8 frames of 72x72, by action",
    modality="video",
    classes=("attack", "die", "idle", "move"),
    image_size=72,
    channels=3,
    length=8,
    mean=(0.4837, 0.4691, 0.4666),
    std=(0.1306, 0.1362, 0.1317),
    counts={"train": 397, "test": 125},
    split_rule="a unit is in the test split, in all its animations, when crc32 of its name divides by 5",
    licence="GPL-2+",
    attribution="The Battle for Wesnoth 1.16, David White and its artists, GPL-2 or later",
    version="1.16.9",
    packages=(
        Package(
            "apt",
            "wesnoth-1.16-data",
            "1:1.16.9-1",
            "1012b964bd412a6770685e3324ae3b61e176caff7846192d1ee63d55cd621e26",
            146229044,
        ),
    ),
)

WATCH = CatalogEntry(
    name="watch",
    title="Shoulder exercises felt by a watch: 4 s windows of six channels at 50 Hz",
    modality="series",
    classes=("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"),
    features=("ax", "ay", "az", "wx", "wy", "wz"),
    length=200,
    sample_rate=50,
    counts={"train": 1522, "test": 707},
    split_rule="the last three of ten people are the test split",
    licence="BSD-3-Clause",
    attribution="Smart-watch shoulder exercises, D. M. Burns, C. M. Whyne and others (2018), as shipped by seglearn, "
    "BSD-3-Clause",
    version="1.2.5",
    packages=(
        Package(
            "pip", "seglearn", "1.2.5", "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd", 11320941
        ),
    ),
)

ENTRIES = (ASTERISK, WESNOTH, WATCH)
