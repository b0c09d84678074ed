"""How a process builds a run's atoms. No torch: the actors that decode for the trainers need none, and importing it
takes longer than all that they import otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.registry import build_augmentations
from dlsvc.data.atom import AtomBuilder, Rows
from dlsvc.data.encoded import EncodedTable
from dlsvc.data.feed_resident import Round, resident_feed
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.quarantine import FILE as QUARANTINE
from dlsvc.data.quarantine import Quarantine
from dlsvc.data.source import open_source
from dlsvc.data.table import Table
from dlsvc.spec.data_sections import AugmentSpec
from dlsvc.train.job import Job


def training_table(job: Job) -> Table:
    """The training split, with its images encoded where the job has them so."""
    table = open_source(job.spec.data, Path(job.home), seed=job.spec.seed).table("train")
    return EncodedTable(table, Path(job.encoded)) if job.encoded else table


def atom_builder(job: Job, table: Rows | None = None) -> AtomBuilder:
    """How this process builds atoms; from the source, unless a table is at hand."""
    data = job.spec.data
    if table is None:
        table = training_table(job)
    pipeline = Pipeline(tuple(augmentations_of(data.augment, Path(job.home))))
    quarantine = Quarantine(len(table), data.max_bad_fraction, job.run.path / QUARANTINE)
    return AtomBuilder(job.plan, table, Preprocess.from_json(job.preprocess), quarantine, pipeline)


def augmentations_of(asked: Iterable[AugmentSpec], home: Path) -> list[Any]:
    """The augmentations of a spec, ready to work."""
    return [_provided(one, home) for one in build_augmentations(asked)]


def _provided(augmentation: Any, home: Path) -> Any:
    """An augmentation with what it needs beside its parameters."""
    needs = getattr(augmentation, "needs", ())
    if "lexicon" in needs:
        from dlsvc.data.lexicon import wordnet_lexicon

        return augmentation.with_resources({"lexicon": wordnet_lexicon(home)})
    if "predict" in needs:
        from dlsvc.published import writers

        return augmentation.with_resources({"predict": writers(home)})
    return augmentation


def resident(table: Rows, job: Job, start: int, rank: int, world_size: int) -> Iterator[Round]:
    """The resident feed of one rank, with a thread for each of its CPUs."""
    threads = max(1, int(job.spec.scaling.resources.cpu))
    stop = job.total_steps
    return resident_feed(
        atom_builder(job, table), start=start, stop=stop, rank=rank, world_size=world_size, threads=threads
    )


def cursor(job: Job) -> int:
    """The step at which a pipeline begins: that of the checkpoint which the workers will load; the last for a run that
    can't go on.
    """
    from dlsvc.store import checkpoint

    if job.run.condemned:
        return job.total_steps
    found = checkpoint.newest_good(job.run.checkpoints)
    return found.manifest.step if found else 0
