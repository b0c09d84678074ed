"""What is wrong with a search, beside what is wrong with the train spec that it searches around."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from dlsvc.errors import Problem
from dlsvc.spec.arguments import encode
from dlsvc.spec.checks import Rule, at_end_only, check, unknown_metric
from dlsvc.spec.document import Node, from_plain
from dlsvc.spec.explain import explain, findings, place_of
from dlsvc.spec.overrides import apply_overrides
from dlsvc.spec.schema import TrainSpec, TuneSpec


def tune_problems(spec: TuneSpec, tree: Node, broken: frozenset[str], further: Sequence[Rule] = ()) -> list[Problem]:
    """The train spec's own problems, the search's, and those of each searched path with each of its extremes."""
    train = tree.child("train")
    problems: list[Problem] = []
    if train is not None and isinstance(train.value, dict):
        inner = frozenset(path.removeprefix("train.") for path in broken if path.startswith("train."))
        found = check(spec.train, train, inner | ({""} if "train" in broken else frozenset()), further)
        problems += [Problem(one.message, f"train.{one.path}", one.file, one.line, one.column) for one in found]
    problems += [place_of(tree, (path,)).problem(message, path) for path, message in _own(spec) if path not in broken]
    if any(path.split(".")[0] in ("train", "search") for path in broken):
        return problems
    # Around a train spec that is wrong every trial would be.
    is_sound = not problems
    for path, values in spec.search.items():
        problems += _search_problems(spec, tree, path, values.extremes(), is_sound)
    return problems


def _own(spec: TuneSpec) -> Iterator[tuple[str, str]]:
    if spec.algorithm == "grid" and any(values.choice is None for values in spec.search.values()):
        yield "algorithm", "grid tries every combination, so each search needs `choice`"
    if spec.scheduler == "none":
        for name in ("grace_steps", "reduction_factor"):
            if getattr(spec, name) != TuneSpec.model_fields[name].default:
                yield name, "without a scheduler nothing reads it; only asha does"
    elif spec.train.evaluate.every_steps is None:
        yield "scheduler", "asha compares trials by their evaluations; give train.evaluate.every_steps too"
    message = unknown_metric(spec.train, spec.metric)
    if message is not None:
        yield "metric", message
    elif spec.scheduler == "asha" and at_end_only(spec.train, spec.metric):
        yield "metric", f"asha compares evaluations on the way, and {spec.metric} is measured at the end only"


def _search_problems(spec: TuneSpec, tree: Node, path: str, values: Sequence[Any], is_sound: bool) -> list[Problem]:
    """The first thing wrong with a searched path; what it leads to is only asked around a sound train spec."""
    place = place_of(tree, ("search", path), of_key=True)
    phases = spec.train.optim.phases
    if phases and path.startswith("optim.") and not path.startswith("optim.phases."):
        message = (
            f"each phase has its own optimizer; search optim.phases.{next(iter(phases))}.{path.removeprefix('optim.')}"
        )
        return [place.problem(message, f"search.{path}")]
    for value in values:
        wrong = _trial_problems(spec.train, path, value, is_sound)
        if wrong:
            return [place.problem(_of_trial(wrong[0], path, value), f"search.{path}")]
    return []


def _trial_problems(train: TrainSpec, path: str, value: Any, is_sound: bool) -> list[Problem]:
    trial = from_plain(train.dump())
    wrong = apply_overrides(trial, [f"{path}={encode(value)}"])
    try:
        chosen = TrainSpec.model_validate_json(encode(trial.plain()), strict=True)
    except ValidationError as error:
        return wrong + explain(findings(error, trial), trial, TrainSpec)
    return wrong + (check(chosen, trial, frozenset()) if is_sound else [])


def _of_trial(problem: Problem, path: str, value: Any) -> str:
    """What is wrong, and where if that is in another field than the searched one."""
    if problem.path in ("", path):
        return problem.message
    return f"with {encode(value)}, {problem.path}: {problem.message}"
