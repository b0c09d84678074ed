"""`make recipes`: every train recipe as a user would run it, and what came of it in its head and in the README's table.

A run is named after its recipe and the commit, and a finished one gives its result back at once: stopped in the middle,
the same command goes on where it was. What a head names as `dlsvc evaluate ...` is measured too. Prose and figures that
neither gives are left as they stand. `make recipes ONLY="jobs/vision/vgg16-fashion-mnist.yaml ..."` runs those.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsvc.spec.load import load_kind
from dlsvc.spec.schema import TrainSpec

ROOT = Path(__file__).parent.parent
_DLSVC = str(Path(sys.executable).with_name("dlsvc"))
_SECONDS = re.compile(r"(?<=: )[\d,]+ s\b(?: beside other work| \(busy machine\))?")
_DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")


def in_order(root: Path) -> list[Path]:
    """The train recipes, each after those whose models it starts from or is compared with."""
    specs = {path: load_kind(TrainSpec, str(path)) for path in sorted(root.rglob("*.yaml")) if _trains(path)}
    makers = {(spec.publish.name or spec.name): path for path, spec in specs.items()}
    found: list[Path] = []

    def add(path: Path) -> None:
        spec = specs[path]
        needs = [*spec.init_from.values(), *re.findall(r"--features (\S+)", "".join(_evaluations(path)))]
        for name in (reference.partition("@")[0] for reference in needs):
            if name in makers and makers[name] not in found:
                add(makers[name])
        if path not in found:
            found.append(path)

    for path in specs:
        add(path)
    return found


def _evaluations(path: Path) -> list[str]:
    """The arguments of each `dlsvc evaluate` of a recipe's head."""
    return re.findall(r"`dlsvc (evaluate [^`]*)`", path.read_text(encoding="utf-8").splitlines()[1])


def _trains(path: Path) -> bool:
    return "kind: train\n" in path.read_text(encoding="utf-8")


def with_result(line: str, metrics: Mapping[str, float], seconds: float, day: str) -> str:
    """A head's second line with the day, the seconds and each `metric number` that the run has."""
    line = _SECONDS.sub(f"{seconds:.0f} s", _DATE.sub(day, line, count=1), count=1)
    return _with_metrics(line, metrics)


def with_row(readme: str, recipe: str, metrics: Mapping[str, float], seconds: float) -> str:
    """The README with a recipe's row of the results' table brought up to date. Raises ValueError when it has none."""
    row = re.search(rf"^\| `{re.escape(recipe)}` \|.*\|$", readme, re.MULTILINE)
    if row is None:
        raise ValueError(f"the README's table has no row for {recipe}")
    name, task, measured, _ = (part.strip() for part in row.group().strip("|").split("|"))
    new = f"| {name} | {task} | {_with_metrics(measured, metrics)} | {seconds:.0f} |"
    return readme[: row.start()] + new + readme[row.end() :]


def _with_metrics(text: str, metrics: Mapping[str, float]) -> str:
    for name, value in metrics.items():
        text = re.sub(rf"(?<!\w){name} -?\d+(?:\.\d+)?", f"{name} {value:.4g}", text, count=1)
    return text


def main(chosen: Sequence[str]) -> None:
    """Run them all, or the chosen, one after another; what fails is told at the end."""
    commit = _said("git", "rev-parse", "--short", "HEAD").strip()
    paths, failed = [(ROOT / path).resolve() for path in chosen] or in_order(ROOT / "jobs"), []
    for number, path in enumerate(paths, 1):
        recipe = path.relative_to(ROOT).as_posix()
        print(f"[{number} of {len(paths)}] {recipe}", file=sys.stderr, flush=True)
        if not _prepared(path):
            failed.append(recipe)
            continue
        command = [_DLSVC, "train", recipe, "--with-needs", "--json"]
        done = subprocess.run(
            [*command, "--name", f"{path.stem}-{commit}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            failed.append(recipe)
            continue
        result = _last_line(done.stdout)
        try:
            for evaluation in _evaluations(path):
                result["metrics"] |= _last_line(_said(_DLSVC, *shlex.split(evaluation), "--json"))["metrics"]
        except subprocess.CalledProcessError:
            failed.append(recipe)
        _write(path, recipe, result)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _prepared(path: Path) -> bool:
    """Whether what the head's `First:` makes is here, made now where it wasn't."""
    for line in re.findall(r"^# First: dlsvc (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        words = shlex.split(line)
        folder = [word for word in words if word.startswith("./")][-1]
        if not (ROOT / folder).exists() and subprocess.run([_DLSVC, *words], cwd=ROOT).returncode:
            return False
    return True


def _write(path: Path, recipe: str, result: Mapping[str, Any]) -> None:
    ended = datetime.datetime.fromtimestamp((Path(result["path"]) / "result.json").stat().st_mtime, datetime.UTC)
    command, head, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    head = with_result(head, result["metrics"], result["seconds"], f"{ended:%Y-%m-%d}")
    path.write_text("".join([command, head, *rest]), encoding="utf-8")
    readme = ROOT / "README.md"
    text = with_row(readme.read_text(encoding="utf-8"), recipe, result["metrics"], result["seconds"])
    readme.write_text(text, encoding="utf-8")


def _last_line(output: str) -> dict[str, Any]:
    return dict(json.loads(output.splitlines()[-1]))


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
