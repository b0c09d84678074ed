"""Texts: definitions, novels, and two languages side by side."""

from __future__ import annotations

from dlsvc.data.catalog.facts import AS_OFFERED, CatalogEntry, Package

WORDNET = CatalogEntry(
    name="wordnet",
    title="WordNet 3.0: 117,659 definitions with the words that share them",
    modality="text",
    classes=("noun", "verb", "adjective", "adverb"),
    counts={"train": 111702, "test": 5957},
    split_rule="a synset is in the test split when crc32 of its offset and part of speech divides by 20",
    licence="WordNet 3.0 licence: free use and redistribution with its notice",
    attribution="WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.",
    version="3.0",
    packages=(
        Package(
            "apt",
            "wordnet-base",
            "1:3.0-37",
            "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
            6467132,
        ),
    ),
)

AUSTEN = CatalogEntry(
    name="austen",
    title="Jane Austen's six novels, a paragraph a row, in order",
    modality="text",
    counts={"train": 9263, "test": 1035},
    split_rule="Persuasion is the test split, the other five novels train",
    licence="public domain (the text), MIT (the package)",
    attribution="Jane Austen (1811-1818), by way of Project Gutenberg and the R package janeaustenr, Julia Silge, MIT",
    version="1.0.0",
    packages=(
        Package(
            "apt",
            "r-cran-janeaustenr",
            "1.0.0-1",
            "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
            1626392,
        ),
    ),
)

BIBLE = CatalogEntry(
    name="bible-en-es",
    title="Bible verses, English and Spanish",
    modality="translation",
    counts={"train": 29579, "test": 1498},
    split_rule="a whole chapter is in the test split when crc32 of its name (Gen.1) divides by 20",
    licence="public domain",
    attribution="World English Bible (eBible.org); Reina-Valera 1909; both public domain, as SWORD modules",
    version="1",
    packages=(
        Package(
            "apt",
            "sword-text-web",
            "426.0-1",
            "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
            3956428,
        ),
        Package(
            "apt",
            "sword-text-sparv",
            "2.60-1",
            "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
            2722332,
        ),
    ),
)

LIBREOFFICE = CatalogEntry(
    name="libreoffice-en-fr",
    title="Paragraphs of LibreOffice's help, English and French",
    modality="translation",
    counts={"train": 24140, "test": 1931},
    split_rule="a whole help page is in the test split when crc32 of its path divides by 20",
    licence="MPL-2.0",
    attribution="LibreOffice help, The Document Foundation and contributors, MPL-2.0",
    version="1",
    # Debian's security updates replace these, and keep no older ones.
    packages=tuple(
        Package("apt", f"libreoffice-help-{language}", AS_OFFERED, nbytes=nbytes)
        for language, nbytes in (("en-us", 1753504), ("fr", 3237008))
    ),
)

ENTRIES = (WORDNET, AUSTEN, BIBLE, LIBREOFFICE)
