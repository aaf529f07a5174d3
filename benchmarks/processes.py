"""Processes that the benchmarks share: a stager by itself, and a pipeline on the local engine."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing as mp
from collections.abc import Iterator
from typing import Any

from bridge.engines import LocalEngine
from bridge.staging import Stager, StagerClient
from bridge.steering import CapabilityBook, Guard

__all__ = ["engine_process", "receive", "spawn", "stager_process", "start"]

spawn = mp.get_context("spawn")


def start(target: Any, *arguments: Any) -> tuple[Any, Any]:
    """Start a process; returns a pipe, whose other end is its last argument, and the process."""
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(*arguments, theirs))
    process.start()
    return mine, process


def receive(pipe: Any, process: Any) -> Any:
    """Return what a process sends; end the benchmark if the process has ended instead."""
    while not pipe.poll(0.2):
        if not process.is_alive() and not pipe.poll(0):
            raise SystemExit(f"A process of the benchmark ended with status {process.exitcode}.")
    return pipe.recv()


def _stager(pipe: Any, limit: int) -> None:
    stager = Stager(limit=limit).start()
    pipe.send(stager.address)
    pipe.recv()
    stager.stop()


@contextlib.contextmanager
def stager_process(limit: int = 4 << 30) -> Iterator[tuple[str, int]]:
    """Run a stager in a process of its own; gives its address and process id."""
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=_stager, args=(theirs, limit))
    process.start()
    try:
        yield receive(mine, process), int(process.pid or 0)
    finally:
        with contextlib.suppress(OSError):
            mine.send("stop")
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def _engine(pipe: Any, address: str, make: str) -> None:
    module, _, name = make.partition(":")
    pipeline = getattr(importlib.import_module(module), name)()
    with StagerClient(address) as client, StagerClient(address) as second:
        book = CapabilityBook(
            lambda: {
                t.name.removeprefix("frames/"): t.capabilities
                for t in second.topics("frames/", schemas=True)
            }
        )
        engine = LocalEngine(pipeline, client, guard=Guard(book))
        pipe.send("ready")
        pipe.send(engine.run("finished").frames)


@contextlib.contextmanager
def engine_process(address: str, make: str) -> Iterator[tuple[Any, Any]]:
    """Run the pipeline that ``module:function`` makes until all streams have finished."""
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=_engine, args=(theirs, address, make))
    process.start()
    try:
        receive(mine, process)
        yield mine, process
        process.join(30)
    finally:
        if process.is_alive():
            process.kill()
            process.join()
