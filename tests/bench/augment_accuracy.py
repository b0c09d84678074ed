"""What augmentation is worth: recipes cut down to few samples, with and without it, on data that training never saw.

    python -m tests.bench.augment_accuracy [image] [audio] [text] [--split left-out] [--seeds 1,2,3] [path=value ...]

Prints a table in Markdown. The samples that are learnt from are drawn by the seed, so the spread is that of both the
data and the start. Augmentations were chosen on the split `left-out`, the rest of the training split, with seeds other
than the table's; the table is measured once, on the test split.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlsvc.data.catalog import entries
from dlsvc.data.convert import pull
from dlsvc.data.source import open_source
from dlsvc.spec.load import load_kind
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.home import home
from dlsvc.train.feeding import resident
from dlsvc.train.prepare import open_run, prepare_job
from dlsvc.train.worker import work

JOBS = Path(__file__).parents[2] / "jobs"
# One worker, in this process; nothing of it changes what is learnt but the size of an atom.
_ALONE = ("scaling.workers=1", "checkpoint.every_steps=100000", "report.every_steps=100000")


@dataclass(frozen=True)
class Case:
    """A recipe, what makes it small, and the augmentations that are compared with none."""

    recipe: str
    overrides: tuple[str, ...]
    augment: str
    source: Callable[[], Path] | None = None

    def spec(self, seed: int, split: str, *, augmented: bool, more: tuple[str, ...] = ()) -> TrainSpec:
        asked = self.augment if augmented else "[]"
        source = (f"data.source={self.source()}", "data.format=jsonl") if self.source else ()
        fixed = (*source, f"seed={seed}", f"evaluate.split={split}", f"data.augment={asked}", *_ALONE)
        return load_kind(TrainSpec, JOBS / f"{self.recipe}.yaml", (*self.overrides, *fixed, *more))


def emoji_words() -> Path:
    """What emoji are called, with their keywords, and which group they are in: every one once, half of them held out.
    Two files of rows, written beside the catalog's set that they are taken from.
    """
    folder = pull(entries()["emoji"], home())
    columns = ["code", "name", "tags", "label"]
    found = pa.concat_tables(
        [pq.read_table(folder / f"{split}.parquet", columns=columns) for split in ("train", "test")]
    )
    unique = {row["code"]: row for row in found.to_pylist()}
    made = home() / "bench" / "emoji-words"
    made.mkdir(parents=True, exist_ok=True)
    for remainder, split in enumerate(("train", "test")):
        rows = [row for code, row in sorted(unique.items()) if zlib.crc32(code.encode()) % 2 == remainder]
        lines = [{"text": " ".join([row["name"], *row["tags"]]), "label": row["label"]} for row in rows]
        (made / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return made


CASES = {
    "image": Case(
        "vision/lenet5-mnist",
        ("data.source=fashion-mnist", "data.limit=500", "budget={steps: 800}", "evaluate.batch_size=500"),
        "[{name: flip}, {name: cutmix, p: 0.5}]",
    ),
    "audio": Case(
        "signals/audio-cnn-asterisk",
        ("data.limit=100", "budget={steps: 300}", "batch.global_size=32"),
        "[{name: time-shift}]",
    ),
    "text": Case(
        "language/text-classifier-wordnet",
        (
            "data.limit=500",
            "model.args.num_classes=10",
            "model.args.num_layers=0",
            "optim.lr=1e-2",
            "budget={steps: 300}",
            "batch={global_size: 64, micro_size: 64}",
        ),
        "[{name: synonyms, alpha: 0.3}]",
        emoji_words,
    ),
}


def accuracy(spec: TrainSpec) -> float:
    """Of a run in this process, in a home that is thrown away but for the data."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (home() / "data").mkdir(parents=True, exist_ok=True)
        (place / "data").symlink_to(home() / "data", target_is_directory=True)
        settled, run = open_run(spec, None, place)
        job = prepare_job(settled, run, place)
        table = open_source(spec.data, place, seed=spec.seed).table("train")
        return float(work(job, functools.partial(resident, table))["metrics"]["accuracy"])


def rows(names: list[str], seeds: list[int], split: str, more: tuple[str, ...]) -> Iterator[str]:
    """A line a case, as its runs end; two run at a time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        asked: dict[str, dict[bool, list[Future[float]]]] = {
            name: {
                augmented: [
                    pool.submit(accuracy, CASES[name].spec(seed, split, augmented=augmented, more=more))
                    for seed in seeds
                ]
                for augmented in (False, True)
            }
            for name in names
        }
        for name, runs in asked.items():
            plain, augmented = ([run.result() for run in runs[which]] for which in (False, True))
            spec = CASES[name].spec(seeds[0], split, augmented=True, more=more)
            wins = sum(one < other for one, other in zip(plain, augmented, strict=True))
            facts = (spec.data.source, spec.model.name, spec.data.limit, _summary(plain), _summary(augmented))
            gain = statistics.mean(augmented) - statistics.mean(plain)
            yield " | ".join(map(str, ("", *facts, f"{gain:+.4f}", f"{wins} of {len(seeds)}", ""))).strip()


def _summary(values: list[float]) -> str:
    """Mean, and the deviation over the seeds."""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="*", metavar="image|audio|text|path=value")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seeds", default="1,2,3")
    asked: Any = parser.parse_args(arguments)
    more = tuple(one for one in asked.what if "=" in one)
    names = [one for one in asked.what if "=" not in one] or list(CASES)
    if unknown := set(names) - set(CASES):
        parser.error(f"no case is called {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    began = time.monotonic()
    print("| data | model | samples | without | with augmentation | gain | better |\n|---|---|---|---|---|---|---|")
    for row in rows(names, [int(seed) for seed in asked.seeds.split(",")], asked.split, more):
        print(row, flush=True)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
