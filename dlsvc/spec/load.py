"""The door: a file, or plain data, becomes a spec, or a SpecError with everything that is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dlsvc.data.catalog import entries
from dlsvc.errors import Problem, SpecError, did_you_mean
from dlsvc.spec.arguments import encode
from dlsvc.spec.checks import Rule, check
from dlsvc.spec.document import MAX_BYTES, Node, from_plain, read, scalar
from dlsvc.spec.explain import explain, findings, place_of
from dlsvc.spec.overrides import apply_overrides
from dlsvc.spec.places import absolute, is_place
from dlsvc.spec.resolve import complete, identity, resolve, resolve_micro_size
from dlsvc.spec.schema import KINDS, ServeSpec, Spec, TrainSpec, TuneSpec

__all__ = ["complete", "dump_yaml", "identity", "load", "load_kind", "parse", "resolve", "resolve_micro_size"]

_Spec = TypeVar("_Spec", TrainSpec, TuneSpec, ServeSpec)

# What stands in for a field that is missing or wrong, so that the rest can still be checked.
_STAND_INS: dict[tuple[str, ...], Any] = {
    ("name",): "stand-in",
    ("model",): {"name": "stand-in"},
    ("model", "name"): "stand-in",
    ("data",): {"source": "stand-in"},
    ("data", "source"): "stand-in",
    ("data", "image", "size"): 1,
    ("budget",): {"steps": 1},
    ("train",): {
        "name": "stand-in",
        "model": {"name": "stand-in"},
        "data": {"source": "stand-in"},
        "budget": {"steps": 1},
    },
    ("search",): {"seed": {"choice": [0]}},
    ("models",): [{"model": "stand-in"}],
}
# Each round takes out what the one before found; what is left after these is too broken to check further.
_ROUNDS = 5


def load(path: str | Path, overrides: Sequence[str] = (), further: Sequence[Rule] = ()) -> Spec:
    """A spec file with dotted overrides. Raises SpecError with every problem at its file, line and column, also of what
    `further` rules find.

    A path of the user's own data counts from the working directory here, and is in full in the spec: what runs it runs
    elsewhere.
    """
    problems: list[Problem] = []
    tree = _read_file(Path(path), problems)
    if tree is None:
        raise SpecError(problems)
    # First, so that an override reaches into a train spec that stands in another file.
    problems += _inline_train(tree, Path(path).parent)
    problems += apply_overrides(tree, overrides)
    return _in_place(_spec(tree, problems, Path(path).parent, further))


def _in_place(spec: Spec) -> Spec:
    if isinstance(spec, TuneSpec):
        return spec.model_copy(update={"train": _in_place(spec.train)})
    if not isinstance(spec, TrainSpec) or spec.data.source in entries() or not is_place(spec.data.source):
        return spec
    data = spec.data.model_copy(update={"source": absolute(spec.data.source)})
    return spec.model_copy(update={"data": data})


def load_kind(
    kind: type[_Spec], path: str | Path, overrides: Sequence[str] = (), further: Sequence[Rule] = ()
) -> _Spec:
    """`load`, for a command that takes one kind of spec."""
    found = load(path, overrides, further)
    if isinstance(found, kind):
        return found
    wanted = kind.model_fields["kind"].default
    raise SpecError(
        [
            Problem(
                f"is {found.kind}; `dlsvc {found.kind}` takes such a spec, and this needs a {wanted} spec",
                "kind",
                str(path),
            )
        ]
    )


def parse(mapping: Mapping[str, Any]) -> Spec:
    """A spec from plain data, such as the JSON that a bundle or a run keeps; a run's has its `identity` beside."""
    tree = from_plain({name: value for name, value in mapping.items() if name != "identity"})
    return _spec(tree, [], Path())


def dump_yaml(spec: Spec) -> str:
    """The spec as a file that loads to the same spec."""
    return yaml.dump(spec.dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader would take for something else than text: `1e-4` is text to PyYAML, and a number to us."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _read_file(path: Path, problems: list[Problem]) -> Node | None:
    try:
        with path.open("rb") as file:
            # One byte more than allowed is enough to refuse it.
            text = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.append(Problem(f"can't be read: {reason}", file=str(path)))
        return None
    return read(text, str(path), problems)


def _spec(tree: Node, problems: list[Problem], folder: Path, further: Sequence[Rule] = ()) -> Spec:
    if not isinstance(tree.value, dict):
        what = "is empty" if tree.value is None else "is not a section of fields"
        raise SpecError([*problems, tree.place.problem(f"{what}; a spec begins with `kind: train`, tune or serve")])
    model = _model(tree)
    if isinstance(model, Problem):
        raise SpecError([*problems, model])
    problems += _inline_train(tree, folder)
    spec, found = _validated(tree, model, further)
    # A value refused by the reader, such as an alias, is not reported again for what stands in its place.
    refused = {(one.file, one.line, one.column) for one in problems if one.line}
    problems += [one for one in found if (one.file, one.line, one.column) not in refused]
    if problems or spec is None:
        raise SpecError(_in_order(problems))
    return spec


def _model(tree: Node) -> type[Spec] | Problem:
    node = tree.child("kind")
    if node is None:
        return tree.place.problem(f"is missing; one of {', '.join(KINDS)}", "kind")
    if not isinstance(node.value, str) or node.value not in KINDS:
        return node.place.problem(f"no spec is of kind {node.plain()!r}{did_you_mean(str(node.value), KINDS)}", "kind")
    return KINDS[node.value]


def _inline_train(tree: Node, folder: Path) -> list[Problem]:
    """A tune spec's `train` may be a path, beside the tune spec's own file; its name defaults to the search's."""
    problems: list[Problem] = []
    kind, node = tree.child("kind"), tree.child("train")
    if kind is None or kind.value != "tune":
        return []
    if node is not None and isinstance(node.value, str):
        place, found = node.place, _read_file(folder / node.value, problems)
        if found is None or not isinstance(found.value, dict):
            return problems or [place.problem(f"{node.value} isn't a train spec", "train")]
        tree.put("train", found, place)
        node = found
    name = tree.child("name")
    if node is not None and isinstance(node.value, dict) and "name" not in node.value and name is not None:
        node.put("name", name, name.place)
    return problems


def _validated(tree: Node, model: type[Spec], further: Sequence[Rule]) -> tuple[Spec | None, list[Problem]]:
    """The spec and what is wrong. After wrong fields the rest is checked beside stand-ins, to report all at once."""
    plain = tree.plain()
    problems: list[Problem] = []
    broken: frozenset[str] = frozenset()
    for _ in range(_ROUNDS):
        try:
            spec = model.model_validate_json(encode(plain), strict=True)
        except ValidationError as error:
            found = findings(error, from_plain(plain) if broken else tree)
            problems = problems or explain(found, tree, model)
            broken |= {".".join(one.path) for one in found}
            plain = _without(plain, [one.path for one in found])
        else:
            return spec, problems + _checked(spec, tree, broken, further)
    return None, problems


def _checked(spec: Spec, tree: Node, broken: frozenset[str], further: Sequence[Rule]) -> list[Problem]:
    if isinstance(spec, TrainSpec):
        return check(spec, tree, broken, further)
    return _tune_problems(spec, tree, broken, further) if isinstance(spec, TuneSpec) else []


def _without(plain: dict[str, Any], paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """The data with each path taken out, or replaced by what stands in for it."""
    plain = copy.deepcopy(plain)
    for path in paths:
        while path and not _replace(plain, path):
            path = path[:-1]
    return plain


def _replace(root: Any, path: tuple[str, ...]) -> bool:
    """Whether there was something to take out, or something to put in. If not, the section around it must go."""
    *parents, last = path
    parent = root
    for part in parents:
        parent = (
            parent[int(part)] if isinstance(parent, list) else parent.get(part) if isinstance(parent, dict) else None
        )
    if isinstance(parent, list):
        # The list stays as long as it was, so that the other paths into it hold.
        had, parent[int(last)] = parent[int(last)] is not None, None
        return had
    if not isinstance(parent, dict):
        return False
    stand_in = _STAND_INS.get(path[1:] if path[0] == "train" and len(path) > 1 else path)
    had = parent.pop(last, None) is not None
    if stand_in is not None:
        parent[last] = copy.deepcopy(stand_in)
    return had or stand_in is not None


def _tune_problems(spec: TuneSpec, tree: Node, broken: frozenset[str], further: Sequence[Rule]) -> list[Problem]:
    """The train spec's own problems, and each searched path with each of its extremes."""
    train = tree.child("train")
    problems: list[Problem] = []
    if train is not None and isinstance(train.value, dict):
        inner = frozenset(path.removeprefix("train.") for path in broken if path.startswith("train."))
        found = check(spec.train, train, inner | ({""} if "train" in broken else frozenset()), further)
        problems += [Problem(one.message, f"train.{one.path}", one.file, one.line, one.column) for one in found]
    if any(path.split(".")[0] in ("train", "search") for path in broken):
        return problems
    for path, values in spec.search.items():
        problems += _search_problems(spec, tree, path, values.extremes())
    if spec.algorithm == "grid" and any(values.choice is None for values in spec.search.values()):
        place = place_of(tree, ("algorithm",))
        problems.append(place.problem("grid tries every combination, so each search needs `choice`", "algorithm"))
    return problems


def _search_problems(spec: TuneSpec, tree: Node, path: str, values: Sequence[Any]) -> list[Problem]:
    place = place_of(tree, ("search", path), of_key=True)
    phases = spec.train.optim.phases
    if phases and path.startswith("optim.") and not path.startswith("optim.phases."):
        message = (
            f"each phase has its own optimizer; search optim.phases.{next(iter(phases))}.{path.removeprefix('optim.')}"
        )
        return [place.problem(message, f"search.{path}")]
    for value in values:
        trial = from_plain(spec.train.dump())
        text = encode(value)
        wrong = apply_overrides(trial, [f"{path}={text}"])
        model: type[BaseModel] = TrainSpec
        try:
            TrainSpec.model_validate_json(encode(trial.plain()), strict=True)
        except ValidationError as error:
            wrong += explain(findings(error, trial), trial, model)
        if wrong:
            return [place.problem(wrong[0].message, f"search.{path}")]
    return []


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """As the file reads, each once; what has no line comes last."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda one: (one.line == 0, one.file, one.line, one.column))
