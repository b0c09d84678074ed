from __future__ import annotations
import hashlib, json
from typing import Any, Literal
from pydantic import BaseModel, ConfigDict, Field
class P(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
class ModelSpec(P):
    name: str; args: dict[str, Any] = {}
class TaskSpec(P):
    name: str | None = None; args: dict[str, Any] = {}
class ImageSpec(P):
    size: int; channels: int = 1; mean: tuple[float, ...] = (0.5,); std: tuple[float, ...] = (0.5,)
class TextSpec(P):
    tokenizer: str = "word"; max_seq_len: int = 32; vocab_size: int = 4096
class ColumnsSpec(P):
    image: str = "image"; label: str = "label"; text: str = "text"; features: tuple[str, ...] = ()
class DataSpec(P):
    source: str; format: str = "auto"; feed: str = "auto"; image: ImageSpec | None = None; text: TextSpec | None = None
    positive: str | None = None; columns: ColumnsSpec = ColumnsSpec(); augment: tuple[dict[str, Any], ...] = (); max_bad_fraction: float = 0.01
class BatchSpec(P):
    global_size: int = 64; micro_size: int | Literal["auto"] = "auto"; reduce: str = "float"
class ScheduleSpec(P):
    name: str = "constant"; warmup_steps: int = 0; final_factor: float = 0.0
class OptimSpec(P):
    name: str = "adam"; lr: float = 1e-3; momentum: float = 0.0; betas: tuple[float, float] = (0.9, 0.999); eps: float = 1e-8; weight_decay: float = 0.0
    max_grad_norm: float | None = None; ema_decay: float | None = None; schedule: ScheduleSpec = ScheduleSpec(); groups: tuple[dict[str, Any], ...] = (); phases: dict[str, dict[str, Any]] = {}
    def of_phase(self, name): return OptimSpec(**{**self.model_dump(exclude={"phases"}), **self.phases.get(name, {})})
class BudgetSpec(P):
    steps: int | None = None; epochs: int | None = None
class Range_(P):
    min: int; max: int
class ResourcesSpec(P):
    cpu: float = 1; gpu: float = 0; accelerator: str | None = None; labels: dict[str, str] = {}
    def as_ray(self): return {"CPU": self.cpu, **({"GPU": self.gpu} if self.gpu else {})}
class ScalingSpec(P):
    workers: int | Range_ = 1; resources: ResourcesSpec = ResourcesSpec(); max_failures: int = 20
class CheckpointSpec(P):
    every_steps: int = 100; keep: int = 2
class EvaluateSpec(P):
    split: str = "test"; every_steps: int | None = None; batch_size: int = 64
class PublishSpec(P):
    name: str | None = None; alias: str | None = None
class ReportSpec(P):
    every_steps: int = 10
class TrainSpec(P):
    kind: Literal["train"] = "train"; name: str; seed: int = 0; model: ModelSpec; task: TaskSpec = TaskSpec(); data: DataSpec; batch: BatchSpec = BatchSpec(); optim: OptimSpec = OptimSpec()
    budget: BudgetSpec; precision: str = "fp32"; strategy: str | None = None; scaling: ScalingSpec = ScalingSpec(); checkpoint: CheckpointSpec = CheckpointSpec(); evaluate: EvaluateSpec = EvaluateSpec()
    publish: PublishSpec = PublishSpec(); init_from: dict[str, str] = {}; freeze: tuple[str, ...] = (); storage: str | None = None; report: ReportSpec = ReportSpec()
    def dump(self): return self.model_dump(mode="json")
    def digest(self): return hashlib.sha256(json.dumps(self.dump(), sort_keys=True).encode()).hexdigest()
