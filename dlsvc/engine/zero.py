"""DeepSpeed ZeRO (Rajbhandari et al. 2020): stage 1 shards optimizer state, 2 gradients too, 3 parameters too. Torch
optimizers are handed in.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from torch import Tensor, nn

from dlsvc.engine.base import Phase, ShardedEngine, Slot
from dlsvc.tasks.base import Companion

_MIN_BUCKET = 1 << 16
_MAX_BUCKET = 500_000_000
_BUCKETS = 32
_KEPT_WHOLE = 1000
# Floats in a cache line.
_LINE = 16
# Floats that fill up 16 bytes, which GPUs' kernels read at once where a parameter begins at such a place.
_PADDED = 3
_SHARED_MEMORY = "deepspeed_shm_comm"


class ZeROEngine(ShardedEngine):
    def __init__(self, *args: Any, stage: int, micro_size: int, **kwargs: Any) -> None:
        self.stage = stage
        self.micro_size = micro_size
        self._totals: dict[str, dict[int, list[Tensor]]] = {}
        super().__init__(*args, **kwargs)

    def _wrap(self, phase: Phase) -> nn.Module:
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if self.place.device.type == "cuda" else "cpu")
        if self.place.device.type == "cuda":
            # It takes this for its GPU's number, and workers may share one.
            os.environ["LOCAL_RANK"] = str(self.place.device.index)
        # Its calls of collectives that torch is about to rename are DeepSpeed's to mend.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        import deepspeed

        # Its collectives over shared memory are only asked for how wide the CPU's vectors are, and are compiled at
        # first use: a worker that is killed meanwhile leaves a lock behind, which all later runs would wait for.
        deepspeed.ops.__compatible_ops__[_SHARED_MEMORY] = False
        # DeepSpeed allocates a whole bucket at every backward; its default of 5e8 elements is 2 GB.
        sizes = [p.numel() for p in self.plain[phase.module].parameters()]
        # Stage 3 keeps a bucket between steps: a small one, which a parameter just fits in. The others' must hold what
        # one partition is padded to. Even: DeepSpeed asserts it.
        least = max(*sizes, sum(sizes) // _BUCKETS) if self.stage == 3 else sum(sizes) + _PADDED * len(sizes)
        bucket = min(max(2 * -(-least // 2), _MIN_BUCKET), _MAX_BUCKET)
        config = {
            "train_micro_batch_size_per_gpu": self.micro_size,
            # DeepSpeed's own linear layer sums a bias's gradient in another order than torch's.
            "zero_optimization": {
                "stage": self.stage,
                "memory_efficient_linear": False,
                "parameter_alignment": True,
                "reduce_bucket_size": bucket,
                "allgather_bucket_size": bucket,
                # Stage 3 would keep what is gathered for as long as 1e9 elements fit, and small parameters for good.
                "stage3_max_reuse_distance": 0,
                "stage3_param_persistence_threshold": sum(sizes) // _KEPT_WHOLE,
            },
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            # Clipping is ours: its norm has the same bits under every strategy.
            "gradient_clipping": 0.0,
        }
        for group in phase.optimizer.param_groups:
            # Stages 1 and 2 lay parameters end to end, and kernels round by where in memory they find them: those that
            # fill whole cache lines go first, so that they all begin at one, as they do under the other strategies.
            group["params"].sort(key=lambda parameter: parameter.numel() % _LINE > 0)
        engine: nn.Module
        engine, _, _, _ = deepspeed.initialize(model=self.plain[phase.module], optimizer=phase.optimizer, config=config)
        return engine

    def _zero(self, phase: Phase) -> Any:
        return self.wrapped[phase.module].optimizer

    def _build_slots(self, phase: Phase) -> list[Slot]:
        return self._build_partition_slots(phase) if self.stage == 3 else self._build_group_slots(phase)

    def _build_group_slots(self, phase: Phase) -> list[Slot]:
        """Stages 1 and 2: a group's parameters lie end to end in one flat vector, cut in equal partitions."""
        zero = self._zero(phase)
        found = []
        for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            for parameter in group:
                piece = parameter._hp_mapping
                if piece is None:
                    continue
                here, there = piece.lp_fragment_address, piece.hp_fragment_address
                found.append(
                    Slot(self._names[id(parameter)], tuple(parameter.shape), here.start, here.numel, flat, there.start)
                )
        return found

    def _build_partition_slots(self, phase: Phase) -> list[Slot]:
        """Stage 3: each parameter's flat elements are cut in equal partitions, the last one padded."""
        zero = self._zero(phase)
        found = []
        parameters: list[Any] = self._parameters(phase)
        for parameter in parameters:
            group, offset, _ = zero.grad_position[zero.get_param_id(parameter)]
            width = parameter.partition_numel()
            start = min(width * self.place.rank, parameter.ds_numel)
            count = min(width, parameter.ds_numel - start)
            found.append(
                Slot(
                    self._names[id(parameter)],
                    tuple(parameter.ds_shape),
                    start,
                    count,
                    zero.fp32_partitioned_groups_flat[group],
                    offset,
                )
            )
        return found

    def _backward(self, phase: Phase, loss: Tensor) -> None:
        engine: Any = self.wrapped[phase.module]
        engine.set_gradient_accumulation_boundary(True)
        engine.backward(loss)

    def _reduce_round(self, phase: Phase) -> None:
        """DeepSpeed has reduced this atom's gradient into this rank's partition; keep the step's total of them."""
        zero = self._zero(phase)
        totals = self._totals.setdefault(phase.name, {})
        for group, gradients in zero.averaged_gradients.items():
            if group not in totals:
                totals[group] = [gradient.detach().clone() for gradient in gradients]
            else:
                for total, gradient in zip(totals[group], gradients, strict=True):
                    total.add_(gradient)
        self._forget(zero)

    def _forget(self, zero: Any) -> None:
        """Let the next atom's gradient start from nothing."""
        zero.zero_grad(set_to_none=True)
        if self.stage == 3:
            zero.micro_step_id = 0
            zero._epilogue_ran_this_backward = False
        else:
            zero.micro_step_id = -1

    def _gradient_pieces(self, phase: Phase) -> list[Tensor]:
        return self._gradients(phase)

    def _gradients(self, phase: Phase) -> list[Tensor]:
        return [gradient for gradients in self._totals[phase.name].values() for gradient in gradients]

    def _update(self, phase: Phase) -> None:
        zero = self._zero(phase)
        for group, total in self._totals.pop(phase.name).items():
            zero.averaged_gradients[group] = total
        engine: Any = self.wrapped[phase.module]
        engine.step()

    def _follow(self, companion: Companion, leader: nn.Module) -> None:
        """A companion is whole on every rank, and under stage 3 its leader is gathered for it."""
        if self.stage < 3:
            return super()._follow(companion, leader)
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(leader.parameters())):
            return super()._follow(companion, leader)

    def untrained(self) -> dict[str, Tensor]:
        found = super().untrained()
        if self.stage < 3:
            return found
        import deepspeed

        frozen = [p for module in self.plain.values() for p in module.parameters() if p in self._frozen]
        with deepspeed.zero.GatheredParameters(frozen):
            return {self._names[id(p)]: p.detach().clone() for p in frozen}

    def _replicated(self) -> list[Tensor]:
        if self.stage < 3:
            return super()._replicated()
        apart = [module for name, module in self.plain.items() if name not in self.wrapped]
        return [p.detach() for module in apart for p in module.parameters()]
