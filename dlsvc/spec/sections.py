"""The sections that specs are made of, as frozen models. Every field says what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[a-z0-9-]{1,63}$"
REFERENCE_PATTERN = r"^[a-z0-9-]{1,63}(@[a-z0-9-]{1,63})?$"
MAX_SEED = 2**63 - 1
MAX_WORKERS = 4096

# A number alone would be taken for a version.
ALIAS_PATTERN = r"^[0-9]*[a-z-][a-z0-9-]*$"
NUMBER_PATTERN = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?"
CONDITION_PATTERN = rf"^(<|<=|>|>=) *({NUMBER_PATTERN}|[a-z0-9-]{{1,63}})$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Alias = Annotated[str, Field(pattern=ALIAS_PATTERN, max_length=63)]
Reference = Annotated[str, Field(pattern=REFERENCE_PATTERN)]
# Registered names follow the modules they live in, so they may hold an underscore.
Registered = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]
# A NUL would end a path early in every system call.
Location = Annotated[str, Field(pattern=r"^[^\x00]{1,4096}$")]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
# A comparison with a number, or with what the model of an alias has.
Condition = Annotated[str, Field(pattern=CONDITION_PATTERN)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


def _countable(share: float) -> float:
    if round(share, 4) != share:
        raise ValueError("Ray counts GPUs in ten thousandths")
    return share


GpuShare = Annotated[float, Field(ge=0, le=1), AfterValidator(_countable)]
Split = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,63}$")]
Strategy = Literal["plain", "ddp", "fsdp", "zero1", "zero2", "zero3"]


class Part(BaseModel):
    """Base of every section: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def tuples(given: Any) -> Any:
    """Lists as tuples, all the way down: JSON's strict mode takes lists for tuples, but not after a validator."""
    if isinstance(given, Mapping):
        return {name: tuples(value) for name, value in given.items()}
    return tuple(tuples(value) for value in given) if isinstance(given, list) else given


class ModelSpec(Part):
    """Which architecture, and its constructor's arguments."""

    name: Registered = Field(description="a registered model; `dlsvc systems` lists them")
    args: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the model's constructor; the rest keep their defaults"
    )


class TaskSpec(Part):
    """Which objective, and its constructor's arguments."""

    name: Registered | None = Field(None, description="a registered task; null is the model's own")
    args: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the task's constructor")


class BatchSpec(Part):
    """How many samples make a step, and how they are cut into atoms."""

    global_size: Annotated[int, Field(ge=1, le=2**24)] = Field(64, description="samples a step, over all workers")
    micro_size: Annotated[int, Field(ge=1, le=2**24)] | Literal["auto"] = Field(
        "auto", description="samples an atom, what a worker computes at once; auto: global_size / most workers"
    )
    reduce: Literal["float", "exact"] = Field(
        "float", description="how gradients are summed; exact gives equal bits for any number of workers (plain, ddp)"
    )


class ScheduleSpec(Part):
    """The learning rate's course over the run."""

    name: Literal["constant", "linear", "cosine", "inverse-sqrt"] = Field(
        "constant", description="the curve after the warm-up"
    )
    warmup_steps: Whole = Field(0, description="steps over which the learning rate rises from near 0")
    final_factor: Fraction = Field(0.0, description="linear and cosine end at this share of lr")


class GroupSpec(Part):
    """Parameters that are treated differently."""

    params: tuple[Text, ...] = Field(min_length=1, description="globs of parameter names; each must match something")
    lr_factor: NonNegative = Field(1.0, description="times lr")
    weight_decay: NonNegative | None = Field(None, description="null is the optimizer's own")
    l1: NonNegative | None = Field(None, description="null is the optimizer's own")


# Which of the fields below each update rule reads.
RULES_READ: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "momentum": ("momentum",),
    "adagrad": ("eps",),
    "rmsprop": ("alpha", "eps"),
    "adadelta": ("rho", "eps"),
    "adam": ("betas", "eps"),
    "adamw": ("betas", "eps"),
    "lion": ("betas",),
    "lamb": ("betas", "eps"),
    "muon": ("momentum", "betas", "eps"),
}
# Rules that are nothing without momentum, and those that look at a parameter as a whole.
RULES_WITH_MOMENTUM, RULES_OF_WHOLES = ("momentum", "muon"), ("lamb", "muon")


class PhaseOptimSpec(Part):
    """One phase's optimizer."""

    name: Literal["sgd", "momentum", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "lion", "lamb", "muon"] = Field(
        "adam", description="the update rule"
    )
    lr: Positive = Field(1e-3, description="the learning rate; adadelta's is usually 1")
    momentum: Share = Field(0.0, description="sgd, momentum and muon only: the share of the last step that is kept")
    betas: tuple[Share, Share] = Field(
        (0.9, 0.999), description="adam, adamw, lion, lamb and muon only: decay of both moments"
    )
    alpha: Share = Field(0.99, description="rmsprop only: decay of the mean of squares")
    rho: Share = Field(0.9, description="adadelta only: decay of both means of squares")
    eps: Positive = Field(1e-8, description="added to the denominator, where there is one")
    weight_decay: NonNegative = Field(0.0, description="L2; decoupled in adamw, lion, lamb and muon")
    l1: NonNegative = Field(0.0, description="L1: times the sign of each parameter, added to its gradient")
    max_grad_norm: Positive | None = Field(None, description="clips the norm of all gradients; null doesn't")
    ema_decay: Share | None = Field(None, description="publishes an average of the parameters; null the last ones")
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec, description="the learning rate's course")
    groups: tuple[GroupSpec, ...] = Field((), description="parameters with their own factors; the first match counts")


class LoraSpec(Part):
    """Low-rank adaptation: of the chosen linear layers only the product of two thin matrices is learnt, and added to
    them when the model is published.
    """

    targets: tuple[Text, ...] = Field(min_length=1, description="globs of linear layers; each must match something")
    rank: Count = Field(8, description="rows of the first matrix and columns of the second")
    alpha: Positive = Field(16.0, description="the product counts alpha / rank times")
    also: tuple[Text, ...] = Field((), description="globs of parameters that are trained whole, such as a new head")


class OptimSpec(PhaseOptimSpec):
    """The optimizer; of every phase, for a task with several."""

    phases: dict[Registered, PhaseOptimSpec] = Field(
        default_factory=dict,
        description="for a task with several phases: every one of them, with the fields that differ from those above",
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, given: Any) -> Any:
        """A phase has the fields that it doesn't name from the section above it."""
        given = tuples(given)
        if not isinstance(given, Mapping) or not isinstance(given.get("phases"), Mapping):
            return given
        shared = {field: value for field, value in given.items() if field in PhaseOptimSpec.model_fields}
        phases = {name: {**shared, **own} if isinstance(own, Mapping) else own for name, own in given["phases"].items()}
        return {**given, "phases": phases}

    def of_phase(self, name: str) -> PhaseOptimSpec:
        return self.phases.get(name, self)


class BudgetSpec(Part):
    """How long to train: steps or epochs."""

    steps: Count | None = Field(None, description="optimizer steps")
    epochs: Count | None = Field(None, description="passes over the training split")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"give exactly one of steps and epochs, not {'both' if self.steps else 'neither'}")
        return self


class WorkerRange(Part):
    """An elastic number of workers."""

    min: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = Field(description="fewest workers to go on with")
    max: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = Field(description="most workers to use")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max is {self.max}, less than min, {self.min}")
        return self


class ResourcesSpec(Part):
    """What each worker asks of Ray."""

    cpu: Positive = Field(1, description="CPUs a worker")
    gpu: GpuShare = Field(0, description="GPUs a worker, which computes on one at most; 0.5 lets two share one")
    accelerator: Text | None = Field(None, description="the kind of accelerator, as Ray names it, such as A100")
    labels: dict[str, str] = Field(default_factory=dict, description="labels that a worker's node must have")

    def as_ray(self) -> dict[str, float]:
        return {"CPU": self.cpu, **({"GPU": self.gpu} if self.gpu else {})}


class ScalingSpec(Part):
    """How many workers, on what."""

    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] | WorkerRange = Field(
        1, description="a number, or {min, max} to grow and shrink with the cluster"
    )
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec, description="what each worker asks for")
    resize_every_s: Positive = Field(
        60, description="how often an elastic run looks whether the cluster has room for more workers, in seconds"
    )
    max_failures: Annotated[int, Field(ge=0, le=10**6)] = Field(
        20, description="restarts after a lost worker or node before the run counts as failed"
    )


class CheckpointSpec(Part):
    """When training is saved."""

    every_steps: Count = Field(100, description="steps between checkpoints; the last step is always saved")
    keep: Count = Field(2, description="how many of the newest checkpoints stay")


class FidelitySpec(Part):
    """How samples are compared with the split's: Fréchet and kernel distance, precision and recall, and the share
    that a classifier reads as what was asked for.
    """

    features: Reference = Field(description="the published model whose vectors are compared")
    samples: Annotated[int, Field(ge=8, le=1_000_000)] = Field(2000, description="how many are made, at most the split")


class EvaluateSpec(Part):
    """How the model is measured."""

    split: Split = Field("test", description="the split to measure on")
    every_steps: Count | None = Field(None, description="steps between evaluations; null: at the end only")
    batch_size: Count = Field(64, description="samples at once")
    fidelity: FidelitySpec | None = Field(None, description="at the end, how near samples come to the data")


class PublishSpec(Part):
    """Under which name the model is stored."""

    name: Name | None = Field(None, description="null is the spec's name")
    alias: Alias | None = Field(None, description="an alias that moves to the new version, such as best or prod")
    promote_if: dict[str, Condition] = Field(
        default_factory=dict,
        description="the alias moves only if each metric is as asked: `>= 0.97`, or `> prod` for what an alias has",
    )


class ReportSpec(Part):
    """How often progress is written down."""

    every_steps: Count = Field(10, description="steps between records of the metrics")
