"""A recipe's model in a plain Lightning loop, in fp32 with everything at its default: prints the images a second.

    python -m tests.bench.lightning_loop jobs/vision/resnet34-fashion-mnist.yaml

Images are decoded and normalised beforehand and not augmented, which leaves the loop less to do than ours has.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import lightning
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dlsvc.data.fit import build_preprocess
from dlsvc.data.source import open_source
from dlsvc.spec.load import load_kind
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.bundle import build_model
from dlsvc.store.home import home

STEPS, SKIPPED = 40, 10


class Plain(lightning.LightningModule):  # type: ignore[misc]
    """As its documentation begins."""

    def __init__(self, model: torch.nn.Module, lr: float) -> None:
        super().__init__()
        self.model, self.lr, self.ends = model, lr, list[float]()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        image, label = batch
        return F.cross_entropy(self.model(image), label)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), self.lr)

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def main(recipe: str) -> None:
    spec = load_kind(TrainSpec, recipe)
    source = open_source(spec.data, home())
    count = STEPS * spec.batch.global_size
    preprocess = build_preprocess(spec.data, source)
    samples = preprocess.finish(preprocess.decode(source.table("train").rows(np.arange(count)))[0])
    data = TensorDataset(torch.from_numpy(samples["image"]), torch.from_numpy(samples["label"]))
    module = Plain(build_model({"name": spec.model.name, "args": spec.model.args}), 1e-3)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, spec.batch.global_size, shuffle=True))
    ends = module.ends[SKIPPED:]
    steps = [late - early for early, late in zip(ends, ends[1:], strict=False)]
    print(spec.batch.global_size / statistics.median(steps))


if __name__ == "__main__":
    main(sys.argv[1])
