"""Loading: YAML 1.2 scalars, overrides, round trips, what is left open and how it is settled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dlsvc.errors import SpecError
from dlsvc.registry import entries
from dlsvc.spec.document import read, scalar
from dlsvc.spec.jsonschema import json_schema
from dlsvc.spec.load import complete, dump_yaml, identity, load, load_kind, parse, resolve, resolve_micro_size
from dlsvc.spec.resolve import signature
from dlsvc.spec.schema import BatchSpec, ServeSpec, TrainSpec, TuneSpec

SPEC: dict[str, Any] = {
    "kind": "train",
    "name": "sound",
    "model": {"name": "lenet5", "args": {"image_size": 28}},
    "data": {"source": "digits", "image": {"size": 28}, "augment": [{"name": "shift", "max_pixels": 2}]},
    "budget": {"steps": 10},
}
GAN = {
    **SPEC,
    "model": {"name": "gan", "args": {"image_size": 28, "in_channels": 1}},
    "optim": {"lr": 2e-4, "betas": [0.5, 0.999], "phases": {"generator": {"lr": 1e-4}, "discriminator": {}}},
}


def train_spec(**changes: Any) -> TrainSpec:
    found = parse({**SPEC, **changes})
    assert isinstance(found, TrainSpec)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("+7", 7),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2026-11-23", "2026-11-23"),
        ("=", "="),
        ("<<", "<<"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("-.inf", float("-inf")),
        ("9" * 50, float("9" * 50)),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2(text: str, value: Any) -> None:
    found = scalar(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["'1e-4'", '"1e-4"', "!!str 1e-4", "! 1e-4"])
def test_quoted_scalars_are_text(text: str) -> None:
    node = read(f"a: {text}", "x", [])
    assert node is not None
    assert node.plain() == {"a": "1e-4"}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optim.lr=1e-4", ("optim", "lr"), 1e-4),
        ("data.augment.0.max_pixels=3", ("data", "augment", 0, "max_pixels"), 3),
        ("data.augment=[]", ("data", "augment"), []),
        ("data.image={size: 28, mean: [0.1]}", ("data", "image", "mean"), [0.1]),
        ("data.image.std=[0.5]", ("data", "image", "std"), [0.5]),
        ("scaling.workers={min: 1, max: 4}", ("scaling", "workers"), {"min": 1, "max": 4}),
        ("publish.alias=", ("publish", "alias"), None),
        ("storage=/a=b", ("storage",), "/a=b"),
    ],
)
def test_override_sets_its_path(override: str, path: tuple[str | int, ...], value: Any, file: Path) -> None:
    found: Any = load(file, [override]).dump()
    for part in path:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "override 'optim.lrr=1': optim.lrr: there is no such field; did you mean 'lr'?"),
        ("optm.lr=1", "override 'optm.lr=1': optm: there is no such field; did you mean 'optim'?"),
        ("optim.lr", "override 'optim.lr': write path=value"),
        ("=1", "override '=1': write path=value"),
        ("optim..lr=1", "write path=value"),
        ("seed.x=1", "there is no such field|is 3, which has nothing inside"),
        ("data.augment.1.p=1", "data.augment: is a list, and has no place '1'; places: 0"),
        ("data.augment.first.p=1", "has no place 'first'"),
        ("optim.lr=fast", "override 'optim.lr=fast': optim.lr: must be a number, not 'fast'"),
        ("optim.lr=[", "isn't YAML"),
        ("optim={lr: 1, lr: 2}", "'lr' is given again"),
        ("freeze=*x", "the alias"),
    ],
)
def test_wrong_override_is_named(override: str, message: str, file: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(file, ["seed=3", override])
    assert any(part in str(caught.value) for part in message.split("|"))
    assert len(caught.value.problems) == 1


def test_later_override_wins(file: Path) -> None:
    assert load(file, ["seed=1", "seed=2"]).dump()["seed"] == 2


names = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)
numbers = st.floats(min_value=1e-12, max_value=1e6)
words = st.text(min_size=1, max_size=12).filter(lambda text: "\x00" not in text and text.isprintable())


@st.composite
def specs(draw: st.DrawFn) -> TrainSpec:
    micro = draw(st.integers(1, 16))
    optim = {"lr": draw(numbers), "weight_decay": draw(st.floats(0, 1)), "groups": [{"params": [draw(words)]}]}
    return train_spec(
        name=draw(names),
        seed=draw(st.integers(0, 2**63 - 1)),
        batch={"global_size": micro * draw(st.integers(1, 16)), "micro_size": draw(st.sampled_from([micro, "auto"]))},
        optim=optim,
        strategy=draw(st.sampled_from([None, "ddp", "fsdp"])),
        scaling={
            "workers": draw(st.sampled_from([1, 3, {"min": 1, "max": 4}])),
            "resources": {"labels": {"a": draw(words)}},
        },
        freeze=draw(st.lists(words, max_size=2)),
        storage=draw(st.one_of(st.none(), words)),
        publish={"name": draw(st.one_of(st.none(), names))},
    )


@given(specs())
def test_dumped_specs_load_again(spec: TrainSpec) -> None:
    assert parse(spec.dump()) == spec
    assert parse(json.loads(json.dumps(spec.dump()))) == spec
    problems: list[Any] = []
    tree = read(dump_yaml(spec), "x", problems)
    assert tree is not None
    assert parse(tree.plain()) == spec


@given(specs())
def test_resolving_twice_changes_nothing(spec: TrainSpec) -> None:
    once = resolve(spec)
    assert resolve(once) == once
    assert parse(complete(spec).dump()) == complete(spec)


def test_gan_phases_inherit_what_they_do_not_name() -> None:
    spec = parse(GAN)
    assert isinstance(spec, TrainSpec)
    assert (spec.optim.of_phase("generator").lr, spec.optim.of_phase("discriminator").lr) == (1e-4, 2e-4)
    assert spec.optim.of_phase("generator").betas == (0.5, 0.999)
    assert parse(spec.dump()) == spec


def test_json_null_and_json_types_parse() -> None:
    assert train_spec(optim={"lr": 1, "max_grad_norm": None}).optim.lr == 1.0


def test_colour_images_have_statistics_for_each_channel() -> None:
    model = {"name": "lenet5", "args": {"image_size": 28, "in_channels": 3}}
    image = train_spec(model=model, data={"source": "emoji", "image": {"size": 28, "channels": 3}}).data.image
    assert image is not None
    assert image.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("global_size", "workers", "micro_size"),
    [(64, 1, 64), (64, 4, 16), (64, 3, 16), (60, 8, 6), (7, 2, 1), (3, 8, 1), (1, 1, 1)],
)
def test_auto_is_a_divisor_with_an_atom_for_each_worker(global_size: int, workers: int, micro_size: int) -> None:
    assert resolve_micro_size(BatchSpec(global_size=global_size), workers) == micro_size


def test_strategy_follows_the_number_of_workers() -> None:
    assert resolve(train_spec()).strategy == "plain"
    assert resolve(train_spec(scaling={"workers": {"min": 1, "max": 2}})).strategy == "ddp"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"strategy": "fsdp"},
        {"scaling": {"workers": 4}},
        {"checkpoint": {"every_steps": 1}},
        {"evaluate": {"batch_size": 1}},
        {"publish": {"alias": "best"}},
        {"report": {"every_steps": 1}},
        {"storage": "/elsewhere"},
        {"data": {**SPEC["data"], "feed": "stream"}},
    ],
)
def test_identity_ignores_what_does_not_decide_the_model(change: dict[str, Any]) -> None:
    batch = {"micro_size": 16}
    assert identity(resolve(train_spec(batch=batch, **change))) == identity(resolve(train_spec(batch=batch)))


def test_a_whole_number_is_the_float_that_a_constructor_takes_it_for() -> None:
    one, other = (resolve(train_spec(task={"args": {"label_smoothing": value}})) for value in (0, 0.0))
    assert isinstance(one.task.args["label_smoothing"], float)
    assert identity(one) == identity(other)
    parts = {"name": "latent_diffusion", "args": {"latent_scale": 1, "unet": {"dropout": 0}}}
    found = signature(entries("model")["latent_diffusion"]).typed(parts["args"])  # type: ignore[arg-type]
    assert str(found) == "{'latent_scale': 1.0, 'unet': {'dropout': 0.0}}"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"batch": {"micro_size": 8}},
        {"batch": {"micro_size": 16, "reduce": "exact"}},
        {"optim": {"lr": 0.1}},
        {"precision": "bf16"},
        {"budget": {"steps": 11}},
        {"data": {**SPEC["data"], "augment": []}},
        {"init_from": {"*": "other@best"}},
    ],
)
def test_identity_tells_other_models_apart(change: dict[str, Any]) -> None:
    other = {"batch": {"micro_size": 16}, **change}
    assert identity(resolve(train_spec(**other))) != identity(resolve(train_spec(batch={"micro_size": 16})))


def test_tune_reads_its_train_spec_from_beside_it(file: Path) -> None:
    tune = file.parent / "tune.yaml"
    tune.write_text(
        "kind: tune\nname: s\ntrain: spec.yaml\nsearch: {optim.lr: {log_uniform: [1e-4, 1e-1]}}\n", encoding="utf-8"
    )
    spec = load_kind(TuneSpec, tune, ["train.seed=5"])
    assert (spec.train_spec().seed, spec.search["optim.lr"].log_uniform) == (5, (1e-4, 1e-1))
    assert parse(spec.dump()) == spec


def test_problem_of_an_included_train_spec_names_its_own_file(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace("lenet5", "lenet"), encoding="utf-8")
    tune = file.parent / "tune.yaml"
    tune.write_text("kind: tune\nname: s\ntrain: spec.yaml\nsearch: {optim.lr: {choice: [1]}}\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(tune)
    assert [problem.file for problem in caught.value.problems] == [str(file)]


def test_search_of_a_field_that_phases_replace_is_refused(tmp_path: Path) -> None:
    body = {"kind": "tune", "name": "s", "train": GAN, "search": {"optim.lr": {"choice": [0.1]}}}
    with pytest.raises(SpecError, match=r"search optim.phases.generator.lr"):
        parse(body)


def test_another_kind_of_spec_is_refused(file: Path) -> None:
    with pytest.raises(SpecError, match="this needs a serve spec"):
        load_kind(ServeSpec, file)


def test_a_runs_own_copy_parses() -> None:
    spec = resolve(train_spec())
    assert parse({**spec.dump(), "identity": identity(spec)}) == spec


@pytest.mark.parametrize("kind", [None, "train", "tune", "serve"])
def test_json_schema_is_draft_7(kind: str | None) -> None:
    schema = json_schema(kind)
    jsonschema.Draft7Validator.check_schema(schema)
    assert "$defs" not in json.dumps(schema)
    assert "prefixItems" not in json.dumps(schema)


def test_json_schema_accepts_what_loads() -> None:
    validator = jsonschema.Draft7Validator(json_schema("train"))
    validator.validate(train_spec().dump())
    assert not validator.is_valid({**SPEC, "optm": {}})
    assert not validator.is_valid({**SPEC, "model": {"name": "lenet"}})


@pytest.mark.parametrize("kind", ["train", "tune", "serve"])
def test_every_field_is_described(kind: str) -> None:
    schema = json_schema(kind)
    for section in [schema, *schema["definitions"].values()]:
        for name, field in section.get("properties", {}).items():
            assert field.get("description"), f"{section['title']}.{name}"
