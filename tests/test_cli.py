"""The command, in this process; and in fresh ones where what is imported counts."""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from dlsvc import __version__
from dlsvc.cli import main
from dlsvc.errors import ClusterUnreachable, DlsvcError, NotFound, Refused, RunCancelled, RunFailed
from tests.spec.test_load import SPEC

_HEAVY = ("torch", "ray", "deepspeed", "numpy", "transformers", "pyarrow")
_VERBS = (
    "augment",
    "data",
    "evaluate",
    "models",
    "recipes",
    "render",
    "runs",
    "schema",
    "serve",
    "submit",
    "systems",
    "train",
    "tune",
    "validate",
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def last_line(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    return str(path)


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    path = tmp_path / "wrong.yaml"
    path.write_text("kind: train\nname: Wrong\nmodel: {name: lenet}\n", encoding="utf-8")
    return str(path)


def test_help_names_every_verb() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert [verb for verb in _VERBS if f"  {verb} " not in result.output] == []


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help(verb: str) -> None:
    assert run(verb, "--help").exit_code == 0


def test_version() -> None:
    assert __version__ in run("--version").output


def test_validate_accepts_a_sound_spec(spec: str) -> None:
    result = run("validate", spec, "optim.lr=1e-4", "--json")
    assert (result.exit_code, last_line(result)["status"]) == (0, "ok")


def test_validate_prints_every_problem_and_exits_2(wrong: str) -> None:
    result = run("validate", wrong)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{wrong}:2:7: name:" in result.stderr
    assert f"{wrong}:3:15: model.name:" in result.stderr


def test_json_failure_is_the_last_line_of_stdout(wrong: str) -> None:
    result = run("validate", wrong, "--json")
    found = last_line(result)
    assert (found["status"], found["error"]["kind"], found["error"]["exit_code"]) == ("error", "SpecError", 2)
    assert {"line", "column", "path", "message"} <= set(found["error"]["problems"][0])


def test_usage_errors_exit_2() -> None:
    assert run("nonsense").exit_code == 2
    result = run("validate", "--json")
    assert (result.exit_code, last_line(result)["error"]["kind"]) == (2, "UsageError")


def test_missing_spec_exits_2(tmp_path: Path) -> None:
    result = run("validate", str(tmp_path / "none.yaml"))
    assert (result.exit_code, "No such file" in result.stderr) == (2, True)


def test_render_json_holds_every_default(spec: str) -> None:
    found = json.loads(run("render", spec, "scaling.workers=4", "-o", "json").stdout)
    assert (found["strategy"], found["batch"]["micro_size"], found["task"]["name"]) == ("ddp", 16, "classification")
    assert found["model"]["args"]["num_classes"] == 10


def test_rendered_yaml_is_a_sound_spec_that_renders_the_same(spec: str, tmp_path: Path) -> None:
    rendered = run("render", spec).stdout
    again = tmp_path / "again.yaml"
    again.write_text(rendered, encoding="utf-8")
    assert run("render", str(again)).stdout == rendered


def test_schema_is_json() -> None:
    assert json.loads(run("schema", "train").stdout)["title"] == "TrainSpec"
    assert run("schema", "trian").exit_code == 2


def test_systems_lists_every_model() -> None:
    from dlsvc.registry import entries, resolve
    from dlsvc.spec.checks import FIDELITY

    rows = last_line(run("systems", "--json"))["systems"]
    assert {row["model"] for row in rows} == set(entries("model"))
    assert all(set(row) == {"model", "task", "recipe", "data", "metric"} for row in rows)
    for row in rows:
        known = (*resolve("task", row["task"]).options["metrics"], *FIDELITY)
        assert any(fnmatch.fnmatchcase(row["metric"], pattern) for pattern in known), row
    assert {row["model"]: row["metric"] for row in rows}["gan"] == "frechet_distance"


def test_augment_lists_parameters() -> None:
    rows = {row["name"]: row for row in last_line(run("augment", "ls", "--json"))["augmentations"]}
    assert rows["shift"]["parameters"] == {"max_pixels": "int", "p": "float = 1.0"}
    assert rows["flip"]["modality"] == "image"


def test_augmentations_to_be_shown_are_checked_as_a_specs_are() -> None:
    wrong = "[{name: rotation, max_degrees: far}, {name: rotatoin}, {name: flip, p: 2}]"
    found = run("data", "show", "digits", "--augment", wrong)
    assert found.exit_code == 2
    assert "--augment:1:32: data.augment.0.max_degrees: " in found.stderr
    assert "no augmentation is called 'rotatoin'; did you mean 'rotation'" in found.stderr
    assert "data.augment.2.p: must be in [0, 1], not 2" in found.stderr


def test_data_lists_the_catalog() -> None:
    assert "digits" in {row["name"] for row in last_line(run("data", "ls", "--json"))["data"]}


def test_recipe_is_found_shown_and_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    chapter = tmp_path / "jobs" / "vision"
    chapter.mkdir(parents=True)
    text = "# Digits in a minute.\n" + Path(spec).read_text(encoding="utf-8")
    (chapter / "lenet5-digits.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("dlsvc.spec.recipes.folder", lambda: tmp_path / "jobs")

    [row] = last_line(run("recipes", "ls", "--json"))["recipes"]
    assert (row["recipe"], row["about"]) == ("vision/lenet5-digits", "Digits in a minute.")
    assert run("recipes", "show", "lenet5-digits").stdout == text
    target = tmp_path / "mine.yaml"
    assert run("recipes", "copy", "vision/lenet5-digits", str(target)).exit_code == 0
    assert target.read_text(encoding="utf-8") == text
    assert run("recipes", "copy", "vision/lenet5-digits", str(target)).exit_code == 4
    assert run("recipes", "show", "lenet6-digits").exit_code == 102
    system = next(row for row in last_line(run("systems", "--json"))["systems"] if row["model"] == "lenet5")
    assert (system["recipe"], system["data"]) == ("vision/lenet5-digits", "digits")


@pytest.mark.parametrize(
    ("error", "code"),
    [(ClusterUnreachable, 3), (Refused, 4), (RunFailed, 100), (NotFound, 102), (RunCancelled, 103), (DlsvcError, 1)],
)
def test_errors_end_with_their_exit_code(
    error: type[DlsvcError], code: int, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise error("the reason")

    monkeypatch.setattr("dlsvc.spec.load.load", fail)
    result = run("validate", spec, "--json")
    assert (result.exit_code, last_line(result)["error"]["message"]) == (code, "the reason")
    assert "the reason" in result.stderr


def test_interrupt_ends_with_130(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dlsvc.spec.load.load", interrupt)
    result = run("validate", spec, "--json")
    assert (result.exit_code, last_line(result)["status"]) == (130, "error")
    assert "interrupted" in result.stderr


def test_unforeseen_error_is_told_in_json_and_keeps_its_traceback(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("dlsvc.spec.load.load", fail)
    result = run("validate", spec, "--json")
    assert isinstance(result.exception, ZeroDivisionError)
    assert last_line(result)["error"] == {"kind": "ZeroDivisionError", "message": "unforeseen", "exit_code": 1}


def imported(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command in a fresh process, and the top-level modules that it had imported at its end."""
    code = (
        "import sys, dlsvc.cli\n"
        f"try: dlsvc.cli.main({list(arguments)!r})\n"
        "except SystemExit as end: code = end.code\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, set(yaml.safe_load(done.stderr.splitlines()[-1]))


def test_help_imports_next_to_nothing() -> None:
    code, modules = imported("--help")
    assert code == 0
    assert modules.isdisjoint({*_HEAVY, "pydantic", "yaml"})


def test_validate_imports_nothing_heavy(spec: str, wrong: str) -> None:
    for path, expected in ((spec, 0), (wrong, 2)):
        code, modules = imported("validate", path)
        assert code == expected
        assert modules.isdisjoint(_HEAVY)


@pytest.mark.parametrize("text", ["", "kind: train\n", "kind: tune\nname: x\n", "a: [\n", "kind: serve\nmodels: []\n"])
def test_wrong_spec_is_refused_before_anything_heavy(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    code, modules = imported("validate", str(path))
    assert code == 2
    assert modules.isdisjoint(_HEAVY)
