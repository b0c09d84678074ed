"""Trains as `dlsvc train` does, from a storage that is far away: `python -m tests.train.far_away SPEC RUN ADDRESS`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsvc.data.atom import AtomBuilder
from dlsvc.store.runs import Run
from dlsvc.train import feeding
from dlsvc.train.job import Job

FETCH_S = 0.05


class FarAway(AtomBuilder):
    """A builder whose storage is far away, and that writes down on which node it stands."""

    def build_all(self, places: Sequence[tuple[int, int]]) -> dict[str, Any]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        run = Run(Path(self.__dict__["run_path"]))
        for step, _ in places:
            time.sleep(FETCH_S)
            run.append("built.jsonl", {"node": node, "step": step, "time": time.time()})
        return super().build_all(places)


def far_away(job: Job) -> AtomBuilder:
    found = feeding.atom_builder(job)
    found.__class__ = FarAway
    found.__dict__["run_path"] = job.run_path
    return found


def main(path: str, run_name: str, address: str) -> None:
    from dlsvc.spec.load import load
    from dlsvc.train import launch

    # By its module's name, under which Ray's workers find it too.
    launch.atom_builder = sys.modules["tests.train.far_away"].far_away  # type: ignore[attr-defined]
    print(json.dumps(launch.train(load(Path(path)), run_name=run_name, address=address, show_progress=False)))


if __name__ == "__main__":
    from tests.train import far_away as by_name

    by_name.main(*sys.argv[1:])
