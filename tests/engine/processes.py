"""Run a function in several processes that form a gloo group, as Ray Train's workers do, without Ray."""

from __future__ import annotations

import functools
import multiprocessing
import os
import queue
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

_LONGEST_S = 180


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_group(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What each rank's `function(rank, world_size, *arguments)` returns, in rank order. A rank's failure is raised
    here.
    """
    context = _server()
    answers: Any = context.Queue()
    port = free_port()
    processes = [
        context.Process(target=_member, args=(rank, world_size, port, function, arguments, answers))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    try:
        found = _collected(processes, answers)
    finally:
        for process in processes:
            process.join(timeout=10)
            process.kill()
    failures = [str(value) for value in found.values() if isinstance(value, RuntimeError)]
    assert not failures, "\n".join(failures)
    return [found[rank] for rank in range(world_size)]


def _collected(processes: list[Any], answers: Any) -> dict[int, Any]:
    """Each rank's answer; of one that was killed, that it was."""
    found: dict[int, Any] = {}
    until = time.monotonic() + _LONGEST_S
    while len(found) < len(processes):
        try:
            rank, value = answers.get(timeout=0.5)
            found[rank] = value
        except queue.Empty:
            for rank, process in enumerate(processes):
                if process.exitcode is not None and process.exitcode < 0:
                    found.setdefault(rank, RuntimeError(f"rank {rank} was killed by signal {-process.exitcode}"))
            if time.monotonic() > until:
                raise
    return found


@functools.cache
def _server() -> Any:
    """Processes are forked from one that has imported what they all need and started no threads: importing torch and
    DeepSpeed anew takes longer than most of what is tested. Muon is what brings in torch's compiler, as any optimizer
    under ZeRO does at its first use.
    """
    if torch.cuda.is_available():
        # A process that has begun with a GPU can't be forked.
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    muon = "deepspeed.runtime.zero.muon.muon_optimizer"
    context.set_forkserver_preload(
        ["torch", "deepspeed", muon, "dlsvc.train.worker", "dlsvc.engine.zero", "tests.train.trials"]
    )
    return context


def _member(
    rank: int, world_size: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...], answers: Any
) -> None:
    place = {
        "RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_RANK": rank,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        answers.put((rank, function(rank, world_size, *arguments)))
    except BaseException:
        answers.put((rank, RuntimeError(traceback.format_exc())))
    finally:
        torch.distributed.destroy_process_group()
