"""Published models of every task, untrained: serving doesn't care how good they are; and MiniLM, whose vectors are
known; and an AST of transformers' directory. And a server of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlsvc.data.catalog import entry
from dlsvc.data.fit import build_preprocess
from dlsvc.data.source import open_source
from dlsvc.predictor import Predictor
from dlsvc.spec.load import complete, parse
from dlsvc.spec.schema import ServedModel, ServeSpec, TrainSpec
from dlsvc.store.bundle import CONFIG, LINEAGE, METRICS, PREPROCESS, build_model
from dlsvc.store.exchange import import_bundle, import_trained
from dlsvc.store.models import ModelStore
from serving.predictor import served
from serving.run import server
from tests.serving.client import Client, free_port
from tests.store.ast_directory import write_ast
from tests.train.tiny_systems import TINY
from tests.train.trials import SYSTEMS, spec_of

_SPECS: dict[str, dict[str, Any]] = {
    "iris": {
        "model": {"name": "mlp", "args": {"in_features": 4, "hidden_dims": [16], "num_classes": 3}},
        "data": {"source": "iris"},
    },
    "speech": {
        "model": {"name": "audio_cnn", "args": {"num_bins": 16, "channels": [4, 8], "num_classes": 5}},
        "data": {"source": "asterisk", "limit": 20, "audio": {"sample_rate": 8000, "seconds": 1, "bins": 16}},
    },
    "nuclei": {
        "model": {
            "name": "unet",
            "args": {"image_size": 64, "base_channels": 4, "depth": 2, "padding": "same", "batch_norm": True},
        },
        "data": {"source": "nuclei"},
    },
    "codes": {
        "model": {"name": "autoencoder", "args": {"image_size": 8, "widths": [16], "code_dim": 4}},
        "data": {"source": "digits", "image": {"size": 8, "mean": [0.0], "std": [1.0]}},
    },
    "sharper": {
        "model": {"name": "srresnet", "args": {"scale": 2, "channels": 4, "num_blocks": 1}},
        "data": {
            "source": "digits",
            "image": {"size": 16, "channels": 3, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        },
    },
    "ddpm": {
        "model": {
            "name": "ddpm",
            "args": {
                "image_size": 8,
                "in_channels": 1,
                "widths": [8, 16],
                "attention": [False, True],
                "blocks": 1,
                "head_dim": 8,
                "groups": 4,
                "num_classes": 10,
            },
        },
        "task": {"name": "denoising", "args": {"sample_steps": 3, "guidance": 2.0}},
        "data": {"source": "digits", "image": {"size": 8, "mean": [0.5], "std": [0.5]}},
    },
    "prompted": {
        "model": {
            "name": "latent_diffusion",
            "args": {
                "image_size": 16,
                "in_channels": 1,
                "latent_scale": 1.0,
                "autoencoder": {"widths": [4, 8], "blocks": 1, "groups": 2, "latent_channels": 2},
                "text": {"vocab_size": 20, "max_seq_len": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
                "unet": {"widths": [8, 16], "attention": [False, True], "blocks": 1, "head_dim": 8, "groups": 4},
            },
        },
        "task": {"name": "latent-denoising", "args": {"sample_steps": 3}},
        "data": {
            "source": "digits",
            "image": {"size": 16, "mean": [0.5], "std": [0.5]},
            "text": {"prompt": "a picture of a {label}", "max_seq_len": 8, "vocab_size": 20},
        },
    },
    "film": {
        "model": {
            "name": "video_cnn",
            "args": {
                "num_frames": 4,
                "image_size": 16,
                "channels": [4],
                "depths": [1],
                "embed_dim": 8,
                "num_classes": 4,
            },
        },
        "data": {"source": "wesnoth", "limit": 20, "video": {"frames": 4, "size": 16}},
    },
    "watch": {
        "model": {"name": "series_cnn", "args": {"in_channels": 6, "channels": [4], "num_classes": 7}},
        "data": {"source": "watch", "limit": 70},
    },
    "novel": {
        "model": {
            "name": "gpt2",
            "args": {"vocab_size": 300, "max_seq_len": 32, "d_model": 16, "num_layers": 2, "num_heads": 2},
        },
        "task": {"args": {"max_new_tokens": 8}},
        "data": {"source": "austen", "limit": 50, "text": {"tokenizer": "bpe", "vocab_size": 300, "max_seq_len": 24}},
    },
    "french": {
        "model": {
            "name": "transformer",
            "args": {"vocab_size": 300, "max_seq_len": 12, "d_model": 16, "num_layers": 2, "num_heads": 2},
        },
        "data": {
            "source": "libreoffice-en-fr",
            "limit": 50,
            "text": {"tokenizer": "bpe", "vocab_size": 300, "max_seq_len": 12, "target": "target_text"},
        },
    },
    "hidden": {
        "model": {
            "name": "bert",
            "args": {"vocab_size": 300, "max_seq_len": 16, "d_model": 16, "num_layers": 2, "num_heads": 2},
        },
        "data": {
            "source": "wordnet",
            "limit": 200,
            "text": {"tokenizer": "wordpiece", "vocab_size": 300, "max_seq_len": 16},
        },
    },
    "chat": {
        "model": {
            "name": "llava",
            "args": {
                "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 2, "num_heads": 2},
                "language": {
                    "vocab_size": 64,
                    "max_seq_len": 40,
                    "d_model": 16,
                    "num_layers": 2,
                    "num_heads": 2,
                    "hidden_dim": 32,
                },
            },
        },
        "task": {"args": {"max_new_tokens": 4}},
        "data": {
            "source": "easy-vqa",
            "limit": 200,
            "image": {"size": 16, "channels": 3, "count": 2},
            "text": {
                "chat": True,
                "column": "question",
                "target": "answer",
                "vocab_size": 64,
                "max_seq_len": 40,
                "image_tokens": 4,
            },
        },
    },
    "captions": {
        "model": {
            "name": "blip",
            "args": {
                "embed_dim": 8,
                "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
                "text": {"vocab_size": 64, "max_seq_len": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
            },
        },
        "data": {
            "source": "emoji",
            "limit": 200,
            "image": {"size": 16, "channels": 3},
            "text": {"vocab_size": 64, "max_seq_len": 8},
        },
    },
    "words": {
        "model": {"name": "word2vec", "args": {"vocab_size": 300, "d_model": 8, "max_seq_len": 16}},
        "data": {
            "source": "wordnet",
            "limit": 200,
            "text": {"tokenizer": "word", "vocab_size": 300, "max_seq_len": 16},
        },
    },
    "glosses": {
        "model": {"name": "text_classifier", "args": {"d_model": 16, "num_layers": 1, "num_classes": 4}},
        "data": {"source": "wordnet", "limit": 400, "text": {"tokenizer": "word"}},
    },
}
# Those that only `dlsvc predict` is asked: every one that is served takes a process.
_UNSERVED: dict[str, dict[str, Any]] = {
    "senses": {
        "model": {"name": "text_classifier", "args": {"d_model": 16, "num_layers": 1, "num_classes": 4}},
        "task": {"name": "embedding"},
        "data": {"source": "wordnet", "limit": 400, "text": {"tokenizer": "word"}},
    },
}
MODELS = ("lenet5", "vae", "gan", "clip", "minilm", "heard", *_SPECS)


@pytest.fixture(scope="session")
def published(home: Path) -> Path:
    """A home with a version 1 of `test-NAME` for each of MODELS."""
    for name in MODELS:
        publish(name, home)
    return home


@pytest.fixture(scope="session")
def predictors(published: Path) -> dict[str, Predictor]:
    store = ModelStore(published)
    return {name: served(store.open(f"test-{name}")) for name in MODELS}


@pytest.fixture(scope="package")
def client(published: Path, ray_cluster: None) -> Iterator[Client]:
    """A server of all of them, in the session's Ray. It goes when these tests have ended: its replicas hold most of the
    CPUs.
    """
    from ray import serve

    spec = ServeSpec(models=tuple(ServedModel(model=f"test-{name}") for name in MODELS), port=free_port())
    with server(spec, home=published) as url:
        yield Client(url)
    serve.shutdown()


@pytest.fixture
def pixels() -> np.ndarray:
    """A picture that no model has seen."""
    return np.random.default_rng(3).integers(0, 256, (20, 20, 3), dtype=np.uint8)


def publish(name: str, home: Path) -> str:
    """A version of `test-NAME`, with dashes: a model of the trials' spec, or of one here, with random weights; MiniLM
    with its own; and AST's directory.
    """
    if name == "minilm":
        return import_trained(ModelStore(home), entry(name), home, f"test-{name}")
    if name == "heard":
        folder = home / "ast"
        return import_bundle(ModelStore(home), folder if folder.exists() else write_ast(folder), f"test-{name}")
    spec = _spec(name)
    torch.manual_seed(0)
    part = {"name": spec.model.name, "args": spec.model.args}
    model = build_model(part)
    _unsettle(model)
    preprocess = build_preprocess(spec.data, open_source(spec.data, home))
    task = {"name": spec.task.name, "args": spec.task.args}
    documents = {
        CONFIG: {"model": part, "task": task, "classes": list(preprocess.classes), "spec": spec.dump()},
        PREPROCESS: preprocess.to_json(),
        METRICS: {},
        LINEAGE: {"run": name, "weights_sha256": name, "identity": name},
    }
    return ModelStore(home).publish(f"test-{name.replace('_', '-')}", model.state_dict(), documents)


def _spec(name: str) -> TrainSpec:
    if name in SYSTEMS or name in TINY:
        return complete(spec_of(name))
    found = parse({"kind": "train", "name": name, "budget": {"steps": 1}, **{**_SPECS, **_UNSERVED}[name]})
    assert isinstance(found, TrainSpec)
    return complete(found)


def _unsettle(model: torch.nn.Module) -> None:
    """Norms as they are after training: statistics of zero and one would hide that they are used."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
