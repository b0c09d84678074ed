"""What no field can say of itself: fields against each other, against registered models and tasks, against known data.

A check reads some fields and yields what is wrong. It is left out where one of its fields is already known to be wrong.
No torch, no Ray, no numpy: everything here is read from source or static tables.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from dlsvc.augment import registry as augmentations
from dlsvc.errors import Problem, did_you_mean
from dlsvc.registry import entries
from dlsvc.spec import facts, text_facts
from dlsvc.spec.arguments import Signature
from dlsvc.spec.document import Node
from dlsvc.spec.explain import place_of
from dlsvc.spec.resolve import known_model, known_task, resolve_strategy, signature
from dlsvc.spec.schema import PhaseOptimSpec, TrainSpec
from dlsvc.spec.sections import RULES_OF_WHOLES, RULES_READ, RULES_WITH_MOMENTUM

# What `evaluate.fidelity` adds to a task's metrics.
FIDELITY = ("frechet_distance", "kernel_distance", "precision", "recall", "label_accuracy")

Found = Iterator[tuple[str, str]]
Check = Callable[[TrainSpec], Found]


@dataclass(frozen=True)
class Rule:
    """A check, and the fields that must be sound for it to mean anything."""

    reads: tuple[str, ...]
    check: Check


def check(spec: TrainSpec, tree: Node, broken: frozenset[str], further: Sequence[Rule] = ()) -> list[Problem]:
    """Every problem of a spec whose `broken` fields have been reported already and hold stand-ins. `further` rules, a
    caller's own, are for specs that are sound otherwise: they may take long.
    """
    names = list(_run(_NAMES, spec, tree, broken))
    arguments = list(_argument_problems(spec, tree, broken))
    wrong = broken | {problem.path for problem in [*names, *arguments]}
    problems = [*names, *arguments, *_run(_RULES, spec, tree, wrong)]
    return problems if problems or broken else list(_run(tuple(further), spec, tree, frozenset()))


def _run(rules: tuple[Rule, ...], spec: TrainSpec, tree: Node, broken: frozenset[str]) -> Iterator[Problem]:
    """Each rule whose fields are sound, in order; what one rule finds wrong the later ones don't build on."""
    for rule in rules:
        if not any(_overlap(field, other) for field in rule.reads for other in broken):
            for path, message in rule.check(spec):
                broken |= {path}
                yield place_of(tree, path.split(".")).problem(message, path)


def _argument_problems(spec: TrainSpec, tree: Node, broken: frozenset[str]) -> Iterator[Problem]:
    """The arguments of the model, the task and each augmentation against their signatures."""
    model, task = known_model(spec), known_task(spec)
    if model is not None and not _touched(("model.name", "model.args"), broken):
        yield from signature(model).problems(_node(tree, "model.args"), "model.args")
    if task is not None and not _touched(("model.name", "task"), broken):
        yield from signature(task).problems(_node(tree, "task.args"), "task.args")
    for place, asked in enumerate(spec.data.augment):
        path, known = f"data.augment.{place}", augmentations.entries().get(asked.name)
        if known is not None and not _touched((path,), broken):
            given = _node(tree, path)
            fields = {name: node for name, node in given.value.items() if name != "name"}
            yield from Signature(asked.name, known.parameters).problems(Node(given.place, fields, given.keys), path)
            yield from _probability(given, path)


def _probability(given: Node, path: str) -> Iterator[Problem]:
    node = given.child("p")
    if node and isinstance(node.value, int | float) and not 0 <= node.value <= 1:
        yield node.place.problem(f"must be in [0, 1], not {node.value}", f"{path}.p")


def _known_model_name(spec: TrainSpec) -> Found:
    models = entries("model")
    if spec.model.name not in models:
        yield "model.name", f"no model is called {spec.model.name!r}{did_you_mean(spec.model.name, models)}"


def _known_task_name(spec: TrainSpec) -> Found:
    tasks = entries("task")
    if spec.task.name is not None and spec.task.name not in tasks:
        yield "task.name", f"no task is called {spec.task.name!r}{did_you_mean(spec.task.name, tasks)}"


def _known_augmentations(spec: TrainSpec) -> Found:
    known = augmentations.entries()
    for place, asked in enumerate(spec.data.augment):
        if asked.name not in known:
            hint = did_you_mean(asked.name, known)
            yield f"data.augment.{place}.name", f"no augmentation is called {asked.name!r}{hint}"


def _atoms_fill_the_batch(spec: TrainSpec) -> Found:
    size, total = spec.batch.micro_size, spec.batch.global_size
    if size == "auto" or total % size == 0:
        return
    divisors = [number for number in range(1, total + 1) if total % number == 0]
    close = sorted(sorted(divisors, key=lambda number: abs(number - size))[:2])
    hint = " or ".join(str(number) for number in close)
    yield "batch.micro_size", f"{size} doesn't divide global_size, {total}; {hint} would"


def _channels_have_statistics(spec: TrainSpec) -> Found:
    image = spec.data.image
    if image is None:
        return
    for name, values in (("mean", image.mean), ("std", image.std)):
        if len(values) != image.channels:
            yield (
                f"data.image.{name}",
                f"has {len(values)} values and the image {image.channels} channels; give one a channel",
            )


def _several_images_are_talked_about(spec: TrainSpec) -> Found:
    image, text = spec.data.image, spec.data.text
    if image is not None and image.count > 1 and not (text and text.chat):
        yield (
            "data.image.count",
            f"is {image.count}, and only chat reads several images; set data.text.chat or leave it out",
        )


def _plain_is_one_worker(spec: TrainSpec) -> Found:
    if spec.strategy == "plain" and spec.most_workers() > 1:
        yield (
            "strategy",
            f"plain is one worker, and scaling.workers goes to {spec.most_workers()}; use ddp, fsdp or zero1 to zero3",
        )


def _zero_keeps_its_size(spec: TrainSpec) -> Found:
    strategy = resolve_strategy(spec)
    if strategy.startswith("zero") and not isinstance(spec.scaling.workers, int):
        yield (
            "scaling.workers",
            f"a range doesn't go with {strategy}: DeepSpeed fixes its number of workers for a whole run; "
            "give one number, or use ddp or fsdp, which can grow and shrink",
        )


def _rules_have_what_they_need(spec: TrainSpec) -> Found:
    strategy = resolve_strategy(spec)
    phases: dict[str, PhaseOptimSpec] = {f"optim.phases.{name}": phase for name, phase in spec.optim.phases.items()}
    for path, optim in (phases or {"optim": spec.optim}).items():
        if optim.name in RULES_WITH_MOMENTUM and not optim.momentum:
            yield f"{path}.momentum", f"{optim.name} needs it; 0.9 is usual"
        if optim.name in RULES_OF_WHOLES and strategy not in ("plain", "ddp"):
            yield (
                f"{path}.name",
                f"{optim.name} looks at each parameter as a whole, which {strategy} splits; use plain or ddp, or adamw",
            )


def _lora_adapts_something(spec: TrainSpec) -> Found:
    if spec.lora is None:
        return
    if not spec.init_from:
        yield "lora", "adapts a model that has learnt already; init_from names none"
    if spec.freeze:
        yield "freeze", "lora trains nothing but its own matrices and what lora.also names: leave it out"


def _exact_is_whole(spec: TrainSpec) -> Found:
    strategy = resolve_strategy(spec)
    if spec.batch.reduce == "exact" and strategy not in ("plain", "ddp"):
        yield (
            "batch.reduce",
            f"exact needs strategy plain or ddp, where every worker holds whole gradients; strategy is {strategy}",
        )


def _every_phase_has_an_optimizer(spec: TrainSpec) -> Found:
    task = known_task(spec)
    if task is None:
        return
    phases, given = tuple(task.options.get("phases", ("main",))), spec.optim.phases
    if len(phases) == 1:
        if given:
            yield "optim.phases", f"task {task.name} has a single phase; put the fields into optim itself"
        return
    missing = [phase for phase in phases if phase not in given]
    if missing:
        yield "optim.phases", f"task {task.name} has the phases {', '.join(phases)}; missing: {', '.join(missing)}"
    for name in given:
        if name not in phases:
            yield f"optim.phases.{name}", f"task {task.name} has no phase {name!r}{did_you_mean(name, phases)}"


def _samples_can_be_compared(spec: TrainSpec) -> Found:
    task = known_task(spec)
    if spec.evaluate.fidelity and task and not task.options.get("makes_samples"):
        makers = sorted(name for name, entry in entries("task").items() if entry.options.get("makes_samples"))
        yield "evaluate.fidelity", f"task {task.name} makes no samples; {', '.join(makers)} do"


def _promotion_is_decidable(spec: TrainSpec) -> Found:
    asked = spec.publish.promote_if
    if asked and spec.publish.alias is None:
        yield "publish.promote_if", "decides whether an alias moves; give publish.alias too"
    for name in asked:
        message = unknown_metric(spec, name)
        if message is not None:
            yield f"publish.promote_if.{name}", message


def at_end_only(spec: TrainSpec, name: str) -> bool:
    """Whether only the last evaluation has a metric: comparing samples takes too long on the way."""
    task = known_task(spec)
    own = task.options["metrics"] if task is not None else ()
    return name in FIDELITY and not any(fnmatch.fnmatchcase(name, pattern) for pattern in own)


def unknown_metric(spec: TrainSpec, name: str) -> str | None:
    """What is wrong with a metric's name where an evaluation of this spec won't give it."""
    task = known_task(spec)
    if task is None:
        return None
    known = (*task.options["metrics"], *(FIDELITY if spec.evaluate.fidelity else ()))
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in known):
        return None
    return f"task {task.name} has no metric {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"


def _no_setting_is_ignored(spec: TrainSpec) -> Found:
    """A setting that another one makes meaningless must keep its default."""
    text, data = spec.data.text, spec.data
    if text is not None and text.vocabulary is not None and text.tokenizer != _default(text, "tokenizer"):
        yield "data.text.tokenizer", "a published vocabulary brings its own; leave one of both out"
    if text is not None and text.target_len is not None and text.target is None:
        yield "data.text.target_len", "is the length of data.text.target, which isn't given"
    if data.feed == "resident" and data.stream != type(data.stream)():
        yield "data.stream", "a resident feed has no stream; use feed: stream or auto, or leave it out"
    if isinstance(spec.scaling.workers, int) and spec.scaling.resize_every_s != _default(
        spec.scaling, "resize_every_s"
    ):
        yield "scaling.resize_every_s", "a fixed number of workers is never resized; give {min, max}"


def _default(part: BaseModel, field: str) -> Any:
    return type(part).model_fields[field].default


def _storage_is_a_directory(spec: TrainSpec) -> Found:
    if spec.storage is not None and "://" in spec.storage:
        yield "storage", "runs and models live in a directory that every node sees, not at a uri; mount it"


def _nothing_is_ignored(spec: TrainSpec) -> Found:
    """A field that the optimizer or the schedule doesn't read must keep its default."""
    yield from _ignored("optim", spec.optim)
    for name, phase in spec.optim.phases.items():
        # What was inherited is reported above it, once.
        above = dict(_ignored("optim", spec.optim))
        for path, message in _ignored(f"optim.phases.{name}", phase):
            if path.replace(f"optim.phases.{name}", "optim") not in above:
                yield path, message


def _ignored(path: str, optim: PhaseOptimSpec) -> Found:
    for name in sorted({field for fields in RULES_READ.values() for field in fields} - set(RULES_READ[optim.name])):
        if getattr(optim, name) != PhaseOptimSpec.model_fields[name].default:
            readers = ", ".join(rule for rule, fields in RULES_READ.items() if name in fields)
            yield f"{path}.{name}", f"{optim.name} would ignore it; it is read by {readers}"
    if optim.schedule.name in ("constant", "inverse-sqrt") and optim.schedule.final_factor != 0.0:
        yield (
            f"{path}.schedule.final_factor",
            f"a {optim.schedule.name} schedule would ignore it; use linear or cosine",
        )


# Names first: what they name decides what else there is to check.
_NAMES = (
    Rule(("model.name",), _known_model_name),
    Rule(("task.name",), _known_task_name),
    Rule(("data.augment",), _known_augmentations),
)
_RULES = (
    Rule(("batch",), _atoms_fill_the_batch),
    Rule(("data.image",), _channels_have_statistics),
    Rule(("data.image", "data.text"), _several_images_are_talked_about),
    Rule(("strategy", "scaling.workers"), _plain_is_one_worker),
    Rule(("strategy", "scaling.workers"), _zero_keeps_its_size),
    Rule(("strategy", "scaling.workers", "batch.reduce"), _exact_is_whole),
    Rule(("model.name", "task.name", "optim.phases"), _every_phase_has_an_optimizer),
    Rule(("task.name", "evaluate.fidelity"), _samples_can_be_compared),
    Rule(("task.name", "evaluate.fidelity", "publish"), _promotion_is_decidable),
    Rule(("optim",), _nothing_is_ignored),
    Rule(("strategy", "scaling.workers", "optim"), _rules_have_what_they_need),
    Rule(("lora", "init_from", "freeze"), _lora_adapts_something),
    Rule(("data", "scaling"), _no_setting_is_ignored),
    Rule(("storage",), _storage_is_a_directory),
    Rule(("data.source",), facts.source_exists),
    Rule(("data",), facts.no_section_is_ignored),
    Rule(("data.source", "data.format"), facts.format_is_for_paths),
    Rule(("data.source", "data.limit", "evaluate.split"), facts.split_exists),
    Rule(("data.source", "data.positive"), facts.positive_is_a_class),
    Rule(("data.source", "data.limit"), facts.limit_is_there),
    Rule(("data.source", "data.text"), facts.prompts_are_for_classes),
    Rule(("data.source", "data.audio", "data.text", "model.name", "task.name"), facts.data_has_what_the_task_reads),
    Rule(("data.text", "model.name", "task.name"), text_facts.tokens_are_the_tasks),
    Rule(("data.source", "data.augment"), facts.augmentations_fit),
    Rule(("model.name", "task.name", "data.encode_once", "data.augment"), facts.images_are_encoded_once),
    Rule(("data.source", "data.limit", "batch.global_size", "budget", "optim"), facts.warmup_ends),
    Rule(
        ("data.source", "data.image", "data.text", "data.audio", "data.positive", "model", "task"),
        facts.model_fits_the_data,
    ),
)


def _overlap(one: str, other: str) -> bool:
    """Whether one path is the other or leads to it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _touched(fields: tuple[str, ...], broken: frozenset[str]) -> bool:
    return any(_overlap(field, other) for field in fields for other in broken)


def _node(tree: Node, path: str) -> Node:
    """What stands at a path; an empty section where nothing does."""
    node: Node | None = tree
    for part in path.split("."):
        node = node.child(part) if node is not None else None
    return node if node is not None and node.value is not None else Node(place_of(tree, path.split(".")), {})
