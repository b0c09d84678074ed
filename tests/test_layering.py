"""The house's rules: imports run downward only, Ray stays at the rim, nothing grows past its measure."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lower to higher. A module belongs to the longest name that it begins with, and may import its layer and those below.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("dlsvc.errors", "dlsvc.__init__", "dlsvc.environment", "dlsvc.cluster"),
    # Static tables, read without importing what they name: a spec is checked against them.
    ("dlsvc.registry", "dlsvc.augment.registry", "dlsvc.data.catalog"),
    ("dlsvc.spec",),
    (
        "dlsvc.augment",
        "dlsvc.nn",
        "dlsvc.diffusion",
        "dlsvc.generation",
        "dlsvc.optim",
        "dlsvc.metrics",
        "dlsvc.neighbors.distance",
    ),
    ("dlsvc.models",),
    ("dlsvc.tasks",),
    ("dlsvc.data",),
    ("dlsvc.engine",),
    ("dlsvc.store",),
    ("dlsvc.predictor",),
    ("dlsvc.published",),
    ("dlsvc.train",),
    ("dlsvc.neighbors", "dlsvc.capfilt"),
    ("dlsvc.tune",),
    ("serving",),
    ("dlsvc.doctor", "dlsvc.terminal"),
    ("dlsvc.cli", "dlsvc.cli_ask", "dlsvc.cli_store", "dlsvc.demo"),
)
# Downward, and still not allowed.
FORBIDDEN = {
    "dlsvc.models": ("dlsvc.tasks", "dlsvc.data", "dlsvc.spec"),
    "dlsvc.tasks": ("dlsvc.models",),
    "dlsvc.store": ("dlsvc.train", "dlsvc.engine"),
    "serving": ("dlsvc.train", "dlsvc.engine", "dlsvc.optim", "dlsvc.tune"),
}
COMPOSITES = {"segnet", "srgan", "latent_diffusion", "temporal_segment"}
COMPOSITES |= {"clip", "blip", "blip2", "blip2_qformer", "llava"}
RAY = (
    "dlsvc/data/feed_stream.py",
    "dlsvc/data/cooccurrence.py",
    "dlsvc/train/encode.py",
    "dlsvc/train/launch.py",
    "dlsvc/train/submit.py",
    "dlsvc/cluster.py",
    "dlsvc/tune/",
    "serving/",
    "dlsvc/doctor.py",
)
BAD_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
MAX_FILE, MAX_FUNCTION, MEDIAN_FUNCTION = 400, 60, 10

FILES = sorted(path for room in ("dlsvc", "serving") for path in (ROOT / room).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


def layer_of(module: str) -> int:
    """The place of the longest layer name that the module begins with."""
    found = [
        (len(name), place)
        for place, names in enumerate(LAYERS)
        for name in names
        if f"{module}.".startswith(f"{name}.") or (module == "dlsvc" and name == "dlsvc.__init__")
    ]
    assert found, f"{module} is in no layer: give it one in this test"
    return max(found)[1]


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported anywhere, inside functions too; not those for the type checker alone."""
    for node in walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else node.module), node.lineno


def walk(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk(child)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_downward(path: Path) -> None:
    module = module_of(path)
    wrong = []
    for imported, line in imports(parsed(path)):
        if imported.split(".")[0] not in ("dlsvc", "serving"):
            continue
        bans = [ban for above, below in FORBIDDEN.items() if module.startswith(above) for ban in below]
        if layer_of(imported) > layer_of(module) or any(f"{imported}.".startswith(f"{ban}.") for ban in bans):
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {imported}")
    assert wrong == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    ours = {module_of(path): {name for name, _ in imports(parsed(path))} for path in FILES}
    try:
        graphlib.TopologicalSorter({module: names & ours.keys() for module, names in ours.items()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", sorted((ROOT / "dlsvc" / "models").glob("*.py")), ids=lambda path: path.stem)
def test_only_composites_import_another_model(path: Path) -> None:
    others = [name for name, _ in imports(parsed(path)) if name.startswith("dlsvc.models.")]
    assert path.stem in COMPOSITES or others == []


def test_ray_stays_at_the_rim() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        for name, line in imports(parsed(path))
        if name.split(".")[0] == "ray" and not str(path.relative_to(ROOT)).startswith(RAY)
    ]
    assert wrong == []


def test_models_are_free_of_training_code() -> None:
    wrong = [
        path.name
        for path in (ROOT / "dlsvc" / "models").glob("*.py")
        for name, _ in imports(parsed(path))
        if name.split(".")[0] in ("ray", "deepspeed") or name.startswith("torch.distributed")
    ]
    assert wrong == []


def test_files_keep_to_their_measure() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE} == {}


def test_functions_keep_to_their_measure() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION} == {}
    assert sorted(lengths.values())[len(lengths) // 2] <= MEDIAN_FUNCTION


def test_modules_are_named_after_what_they_hold() -> None:
    assert [str(path) for path in FILES if path.stem in BAD_NAMES] == []


def test_nothing_happens_at_import() -> None:
    """A bare call at a module's top level is work that an import would do."""
    allowed = {"_Dumper.add_representer", "main.add_command"}
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in parsed(path).body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) not in allowed
    ]
    assert wrong == []
