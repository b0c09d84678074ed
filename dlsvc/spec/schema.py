"""What a user may write: train, tune and serve specs, made of the sections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dlsvc.spec.data_sections import AudioSpec, AugmentSpec, ColumnsSpec, DataSpec, ImageSpec, TextSpec
from dlsvc.spec.sections import (
    MAX_SEED,
    Alias,
    BatchSpec,
    BudgetSpec,
    CheckpointSpec,
    Count,
    EvaluateSpec,
    GpuShare,
    GroupSpec,
    Location,
    LoraSpec,
    ModelSpec,
    Name,
    OptimSpec,
    Part,
    PhaseOptimSpec,
    PublishSpec,
    Reference,
    ReportSpec,
    ResourcesSpec,
    ScalingSpec,
    ScheduleSpec,
    Strategy,
    TaskSpec,
    Text,
    WorkerRange,
)

__all__ = [
    "AudioSpec",
    "AugmentSpec",
    "BatchSpec",
    "BudgetSpec",
    "CheckpointSpec",
    "ColumnsSpec",
    "DataSpec",
    "EvaluateSpec",
    "GroupSpec",
    "ImageSpec",
    "KINDS",
    "LoraSpec",
    "ModelSpec",
    "OptimSpec",
    "PhaseOptimSpec",
    "PublishSpec",
    "ReportSpec",
    "ResourcesSpec",
    "ScalingSpec",
    "ScheduleSpec",
    "SearchSpec",
    "ServeSpec",
    "ServedModel",
    "Spec",
    "Strategy",
    "TaskSpec",
    "TextSpec",
    "TrainSpec",
    "TunePublishSpec",
    "TuneSpec",
    "WorkerRange",
    "digest",
]


class _Dumped(Part):
    def dump(self) -> dict[str, Any]:
        """Plain data for JSON, in the order of the fields."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """sha256 over every field."""
        return digest(self.dump())


class TrainSpec(_Dumped):
    """A training run: the model that comes out is a function of this."""

    kind: Literal["train"] = Field("train", description="what this spec is")
    name: Name = Field(description="names the run and the model: a-z, 0-9 and -, at most 63")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = Field(0, description="all randomness comes from it")
    model: ModelSpec = Field(description="the architecture")
    task: TaskSpec = Field(default_factory=TaskSpec, description="the objective")
    data: DataSpec = Field(description="what to learn from")
    batch: BatchSpec = Field(default_factory=BatchSpec, description="samples a step, and how they are cut")
    optim: OptimSpec = Field(default_factory=OptimSpec, description="the optimizer")
    budget: BudgetSpec = Field(description="how long to train")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 computes in bfloat16 over fp32 parameters")
    strategy: Strategy | None = Field(
        None, description="how workers share the model; null: ddp for several workers, plain for one"
    )
    scaling: ScalingSpec = Field(default_factory=ScalingSpec, description="how many workers, on what")
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec, description="when training is saved")
    evaluate: EvaluateSpec = Field(default_factory=EvaluateSpec, description="how the model is measured")
    publish: PublishSpec = Field(default_factory=PublishSpec, description="under which name the model is stored")
    init_from: dict[str, Reference] = Field(
        default_factory=dict, description="a glob of this model's parameters: the published model they start from"
    )
    freeze: tuple[Text, ...] = Field((), description="globs of parameters that aren't trained")
    lora: LoraSpec | None = Field(None, description="low-rank adaptation of what init_from gives; null trains all")
    storage: Location | None = Field(None, description="the directory of runs and models; null is $DLSVC_HOME")
    report: ReportSpec = Field(default_factory=ReportSpec, description="how often progress is written down")

    def most_workers(self) -> int:
        workers = self.scaling.workers
        return workers if isinstance(workers, int) else workers.max


Pair = tuple[float, float]


class SearchSpec(Part):
    """Values to try for one field: exactly one of these."""

    choice: tuple[Any, ...] | None = Field(None, description="any of these values")
    uniform: Pair | None = Field(None, description="a number between both")
    log_uniform: Pair | None = Field(None, description="a number between both, its logarithm uniform")
    integer: tuple[int, int] | None = Field(None, description="a whole number from the first to the second, included")

    @model_validator(mode="after")
    def _one_and_in_order(self) -> Self:
        given = {name: value for name, value in self if value is not None}
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of choice, uniform, log_uniform and integer, not {sorted(given) or 'none'}"
            )
        [(name, values)] = given.items()
        if name == "choice" and not values:
            raise ValueError("choice needs at least one value")
        if name != "choice" and values[0] >= values[1]:
            raise ValueError(f"{name} goes from the smaller to the larger number, not from {values[0]} to {values[1]}")
        if name == "log_uniform" and values[0] <= 0:
            raise ValueError(f"log_uniform needs numbers above 0, not {values[0]}")
        return self

    def extremes(self) -> tuple[Any, ...]:
        """Every choice, or both ends of a range."""
        return next(value for _, value in self if value is not None)


class TunePublishSpec(Part):
    """Where the best trial's model is found afterwards."""

    name: Name | None = Field(None, description="null is the train spec's own")
    alias: Alias = Field("best", description="the alias that moves to the best trial's version")


class TuneSpec(_Dumped):
    """A search over fields of a train spec."""

    kind: Literal["tune"] = Field("tune", description="what this spec is")
    name: Name = Field(description="names the search: a-z, 0-9 and -, at most 63")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(0, description="the trials are drawn from it")
    train: TrainSpec = Field(description="the train spec, or the path of one, that every trial begins with")
    search: dict[str, SearchSpec] = Field(min_length=1, description="dotted paths of the train spec: what to try there")
    metric: Text = Field("accuracy", description="the evaluation's metric that decides")
    mode: Literal["max", "min"] = Field("max", description="whether more of it is better, or less")
    algorithm: Literal["random", "grid"] = Field("random", description="draws, or every combination of choices")
    scheduler: Literal["none", "asha"] = Field("none", description="asha stops trials that fall behind")
    grace_steps: Count = Field(50, description="asha: no trial is stopped before")
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = Field(3, description="asha: one in so many goes on")
    trials: Annotated[int, Field(ge=1, le=10_000)] = Field(8, description="how many are drawn; grid ignores it")
    max_concurrent: Count | Literal["auto"] = Field(
        "auto", description="trials at a time; auto: what the cluster holds"
    )
    publish: TunePublishSpec = Field(default_factory=TunePublishSpec, description="where the best model is found")

    def train_spec(self) -> TrainSpec:
        return self.train


class ServedModel(Part):
    """One model of a server."""

    model: Reference = Field(description="name, name@version or name@alias")
    replicas: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="processes that answer for it")
    max_batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(8, description="most requests computed at once")
    batch_wait_s: Annotated[float, Field(ge=0, le=60)] = Field(0.01, description="how long a batch waits to fill")
    gpu: GpuShare = Field(0, description="GPUs a replica; 0.25 lets four share one, 0 is the CPU")


class ServeSpec(_Dumped):
    """A server of published models."""

    kind: Literal["serve"] = Field("serve", description="what this spec is")
    name: Name = Field("serve", description="names the application: a-z, 0-9 and -, at most 63")
    models: tuple[ServedModel, ...] = Field(min_length=1, description="what to serve")
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")] = Field(
        "127.0.0.1", description="the address to listen on; 0.0.0.0 for every one"
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="the port to listen on")


Spec = TrainSpec | TuneSpec | ServeSpec
KINDS: dict[str, type[TrainSpec] | type[TuneSpec] | type[ServeSpec]] = {
    "train": TrainSpec,
    "tune": TuneSpec,
    "serve": ServeSpec,
}


def digest(document: Mapping[str, Any]) -> str:
    """sha256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
