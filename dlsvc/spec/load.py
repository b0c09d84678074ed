"""The door: a file, or plain data, becomes a spec, or a SpecError with everything that is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from dlsvc.data.catalog import entries, trained_weights
from dlsvc.errors import Problem, SpecError, did_you_mean
from dlsvc.spec.arguments import encode
from dlsvc.spec.checks import Rule, check
from dlsvc.spec.data_sections import AugmentSpec
from dlsvc.spec.document import MAX_BYTES, Node, from_plain, read, scalar
from dlsvc.spec.explain import explain, findings
from dlsvc.spec.overrides import apply_overrides
from dlsvc.spec.places import absolute, is_place
from dlsvc.spec.resolve import complete, identity, resolve, resolve_micro_size
from dlsvc.spec.schema import KINDS, ServeSpec, Spec, TrainSpec, TuneSpec
from dlsvc.spec.tune_checks import tune_problems

__all__ = [
    "complete",
    "dump_yaml",
    "identity",
    "load",
    "load_kind",
    "parse",
    "read_augmentations",
    "resolve",
    "resolve_micro_size",
]

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
    """With the paths of the data, of a vocabulary and of the storage in full."""
    if isinstance(spec, TuneSpec):
        return spec.model_copy(update={"train": _in_place(spec.train)})
    if not isinstance(spec, TrainSpec):
        return spec
    data, text = spec.data, spec.data.text
    if data.source not in entries() and is_place(data.source):
        data = data.model_copy(update={"source": absolute(data.source)})
    if text is not None and text.vocabulary not in (None, *trained_weights()):
        data = data.model_copy(update={"text": text.model_copy(update={"vocabulary": absolute(str(text.vocabulary))})})
    return spec.model_copy(update={"data": data, "storage": spec.storage and absolute(spec.storage)})


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


def read_augmentations(text: str, source: str) -> tuple[AugmentSpec, ...]:
    """A list as `data.augment` has it in a spec of that source. Raises SpecError with all that is wrong with it."""
    problems: list[Problem] = []
    given = read(text, "--augment", problems)
    tree = from_plain({"kind": "train", "data": {"source": source}})
    spec = None
    if given is not None:
        tree.value["data"].put("augment", given, given.place)
        spec, found = _validated(tree, TrainSpec, ())
        # The rest of the spec is missing, and others stand in for it.
        problems += [one for one in found if one.path.startswith("data.augment")]
    if problems or not isinstance(spec, TrainSpec):
        raise SpecError(_in_order(problems))
    return spec.data.augment


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
            plain, gone = _without(plain, [one.path for one in found])
            broken |= {".".join(path) for path in gone}
        else:
            return spec, problems + _checked(spec, tree, broken, further)
    return None, problems


def _checked(spec: Spec, tree: Node, broken: frozenset[str], further: Sequence[Rule]) -> list[Problem]:
    if isinstance(spec, TrainSpec):
        return check(spec, tree, broken, further)
    return tune_problems(spec, tree, broken, further) if isinstance(spec, TuneSpec) else []


def _without(plain: dict[str, Any], paths: Sequence[tuple[str, ...]]) -> tuple[dict[str, Any], set[tuple[str, ...]]]:
    """The data with each path taken out, or replaced by what stands in for it; and what went: where there was nothing
    at a path, the section around it.
    """
    plain = copy.deepcopy(plain)
    gone: set[tuple[str, ...]] = set()
    for path in paths:
        if any(path[: len(other)] == other for other in gone):
            continue
        while path and not _replace(plain, path):
            path = path[:-1]
        gone.add(path)
    return plain, gone


def _replace(root: Any, path: tuple[str, ...]) -> bool:
    """Whether there was something to take out, or something to put in. If not, the section around it must go."""
    *parents, last = path
    parent = root
    for part in parents:
        parent = _child(parent, part)
    if isinstance(parent, list):
        # The list stays as long as it was, so that the other paths into it hold.
        had = int(last) < len(parent) and parent[int(last)] is not None
        if had:
            parent[int(last)] = None
        return had
    if not isinstance(parent, dict):
        return False
    stand_in = _STAND_INS.get(path[1:] if path[0] == "train" and len(path) > 1 else path)
    had = last in parent
    parent.pop(last, None)
    if stand_in is not None:
        parent[last] = copy.deepcopy(stand_in)
    return had or stand_in is not None


def _child(parent: Any, part: str) -> Any:
    if isinstance(parent, list):
        return parent[int(part)] if int(part) < len(parent) else None
    return parent.get(part) if isinstance(parent, dict) else None


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """As the file reads, each once; what has no line comes last."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda one: (one.line == 0, one.file, one.line, one.column))
