"""From a spec to a job: the run's directory, and what the data is. No Ray, so any process group can train."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from dlsvc.augment.pipeline import Pipeline
from dlsvc.data.catalog import trained_weights
from dlsvc.data.convert import pull
from dlsvc.data.fit import build_preprocess, check_texts
from dlsvc.data.order import Order, Shuffled, Windowed
from dlsvc.data.progress import Say, silent
from dlsvc.data.source import open_source
from dlsvc.data.subword import TOKENIZER
from dlsvc.data.table import CACHE_BYTES, Table
from dlsvc.errors import DataError, UsageError
from dlsvc.spec.data_sections import DataSpec
from dlsvc.spec.load import identity, resolve
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import Run, RunStore
from dlsvc.train.buildable import unbuildable
from dlsvc.train.feeding import augmentations_of
from dlsvc.train.fitting import misfits, unread
from dlsvc.train.job import Job

# What fits comfortably beside the model in every worker is kept in memory.
RESIDENT_BYTES = 1 << 30

# What a window of row groups takes: half of what a table keeps at hand, since two windows meet in a batch.
WINDOW_BYTES = CACHE_BYTES // 2


def open_run(spec: TrainSpec, run_name: str | None, home: Path) -> tuple[TrainSpec, Run]:
    """The run that this spec and name mean, and the spec with all settled as when the run began: `auto`, and which
    version of a model it starts from. Raises NotFound for one that isn't published.
    """
    store = RunStore(home)
    if run_name and store.exists(run_name) and spec.batch.micro_size == "auto":
        # Another number of workers must not settle `auto` anew in the middle of a run.
        kept = store.open(run_name).read("spec.json")["batch"]["micro_size"]
        spec = spec.model_copy(update={"batch": spec.batch.model_copy(update={"micro_size": kept})})
    spec = resolve(spec)
    name = run_name or f"{spec.name[:54]}-{spec.digest()[:8]}"
    before = store.open(name).read("spec.json")["init_from"] if store.exists(name) else {}
    spec = spec.model_copy(update={"init_from": _pinned(spec.init_from, before, home)})
    return spec, store.begin(name, spec.dump(), identity(spec))


def _pinned(init_from: Mapping[str, str], before: Mapping[str, str], home: Path) -> dict[str, str]:
    """Each reference with its version: what a name or an alias means now, or meant when the run began."""
    found = {}
    for glob, reference in init_from.items():
        earlier = before.get(glob, "")
        if earlier.partition("@")[0] == reference.partition("@")[0] and not _is_version(reference):
            found[glob] = earlier
        else:
            found[glob] = "@".join(map(str, ModelStore(home).resolve(reference)))
    return found


def _is_version(reference: str) -> bool:
    return reference.partition("@")[2].isdigit()


def prepare_job(spec: TrainSpec, run: Run, home: Path, say: Say = silent) -> Job:
    """What the data is, settled once on the driver. Raises UsageError for a value that the model, the task or the data
    takes for wrong, before anything starts.
    """
    for section, refusal in unbuildable(spec):
        raise UsageError(f"{section}: {refusal}")
    source = open_source(spec.data, home, say, seed=spec.seed)
    table = source.table("train")
    if not len(table):
        raise DataError(f"data.source {spec.data.source!r} has no training samples")
    pipeline = Pipeline(tuple(augmentations_of(spec.data.augment, home)))
    preprocess = build_preprocess(_with_vocabulary(spec.data, home, say), source, pipeline)
    for field, misfit in itertools.chain(unread(spec, preprocess, table), misfits(spec, preprocess)):
        raise UsageError(f"{field}: {misfit}")
    check_texts(preprocess, table, say)
    return Job(
        spec=spec,
        identity=identity(spec),
        run_path=str(run.path),
        home=str(home),
        preprocess=preprocess.to_json(),
        classes=preprocess.classes,
        order=order_of(table),
        data_fingerprint=table.fingerprint,
        feed=spec.data.feed if spec.data.feed != "auto" else _chosen_feed(source.name, table, say),
    )


def _with_vocabulary(data: DataSpec, home: Path, say: Say) -> DataSpec:
    """Where the vocabulary is one of the catalog's, pulled now, the file that it is in."""
    known = trained_weights()
    if data.text is None or data.text.vocabulary not in known:
        return data
    file = pull(known[data.text.vocabulary], home, say) / TOKENIZER
    if not file.is_file():
        raise UsageError(f"data.text.vocabulary: {data.text.vocabulary} has no {TOKENIZER}")
    return data.model_copy(update={"text": data.text.model_copy(update={"vocabulary": str(file)})})


def _chosen_feed(name: str, table: Table, say: Say) -> str:
    """Resident while it fits comfortably in memory."""
    feed = "resident" if table.nbytes <= RESIDENT_BYTES else "stream"
    verdict = "fits" if feed == "resident" else "doesn't fit"
    say(
        f"{name}: {table.nbytes / 2**20:,.1f} MiB {verdict} in {RESIDENT_BYTES / 2**20:,.0f} MiB, so its feed is {feed}"
    )
    return feed


def order_of(table: Table) -> Order:
    """Any row anywhere where that is cheap; within windows of row groups where the data is too large for it. It depends
    on the data alone, so both feeds have the same.
    """
    if not table.groups or table.nbytes <= RESIDENT_BYTES:
        return Shuffled(len(table))
    window_rows = len(table) * WINDOW_BYTES // table.nbytes
    return Windowed(table.groups, max(1, window_rows))
