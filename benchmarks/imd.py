"""Frames of an IMD server in NumPy arrays: read by us, through staging, and by imdclient.

One server serves readers in turn, in processes of their own: ours by itself (whatever arrives lies
in arrays), the sidecar with a stager and a consumer of the stream behind it, and imdclient. It
sends as fast as it is read: time, box and positions of version 3, or all that version 3 has. A bare
socket that throws away what it reads, and never sleeps, shows how fast the server can be read at
all. Clocks start before a reader connects, and after its modules are imported.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import time
from typing import Any

import numpy as np

from benchmarks.processes import receive, spawn, stager_process
from benchmarks.report import figure, result
from bridge.staging import StagerClient, StreamOptions
from bridge.transports.imd import EngineConnection, ImdListener, Layout, SessionInfo

# Atoms to frames of one measurement, about as many bytes each.
SIZES = {1_000: 60_000, 100_000: 2_400}
QUICK = 0.25

_POSITIONS = SessionInfo(version=3, time=True, box=True, wrapped=False)
_ALL = SessionInfo(
    version=3, time=True, energies=True, box=True, wrapped=False, velocities=True, forces=True
)


def _serve(pipe: Any, info: SessionInfo, atoms: int, count: int) -> None:
    """Send frames whose steps count up, to one reader after the other, without any more ado."""
    layout = Layout(info, atoms)
    rows = layout.empty(1)
    rng = np.random.default_rng(0)
    for name in ("positions", "velocities", "forces"):
        if getattr(info, name):
            rows[name] = rng.normal(size=(1, atoms, 3))
    rows["box"] = 100.0 * np.eye(3)
    frame = bytearray(rows.tobytes())
    hello = struct.pack(">i", 4) + struct.pack("<i", 3) + struct.pack(">ii", 10, 7)
    hello += bytes((info.time, info.energies, info.box, 1, 0, info.velocities, info.forces))
    with ImdListener() as listener:
        pipe.send(listener.port)
        while (reader := listener.accept(60.0)) is not None:
            reader.settimeout(60.0)
            # Where the system paces what is sent (BBR), the server's processor bounds all readers.
            reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
            try:
                reader.sendall(hello)
                reader.recv(8)
                for step in range(count):
                    # Of the time packet: time and step, behind header and length of a step.
                    struct.pack_into("<dq", frame, 16, step * 0.002, step)
                    reader.sendall(frame)
                reader.shutdown(socket.SHUT_WR)
                while reader.recv(65536):
                    # What a reader asks for must be taken, or closing would take frames back.
                    pass
            except OSError:
                pass
            finally:
                reader.close()


def _read_ours(pipe: Any, port: int, atoms: int) -> None:
    began = time.perf_counter()
    frames = 0
    with EngineConnection("127.0.0.1", port, atoms=atoms) as engine:
        while (found := engine.read(60.0)) is not None:
            frames += found.count
            assert found.vectors["positions"].shape == (found.count, atoms, 3)
    pipe.send((frames, time.perf_counter() - began))


def _read_bare(pipe: Any, port: int, atoms: int) -> None:
    # The fastest way that was found at 100,000 atoms, in C no slower: piece by piece, wide awake.
    size = 0
    room = bytearray(1 << 20)
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as engine:
        engine.sendall(struct.pack(">ii", 3, 0))
        engine.setblocking(False)
        got = -1
        while got:
            try:
                got = engine.recv_into(room)
            except BlockingIOError:
                continue
            size += got
    pipe.send((size, time.perf_counter() - began))


def _read_imdclient(pipe: Any, port: int, atoms: int) -> None:
    from imdclient.IMDClient import IMDClient

    with contextlib.suppress(ImportError):
        # It looks for IPython once it is connected, which took 0.04 s of 0.2.
        import IPython  # noqa: F401

    began = time.perf_counter()
    client = IMDClient("127.0.0.1", port, atoms)
    frames = 0
    try:
        while True:
            frame = client.get_imdframe()
            frames += 1
            assert frame.positions.shape == (atoms, 3)
    except EOFError:
        pass
    pipe.send((frames, time.perf_counter() - began))


def _link(pipe: Any, address: str, port: int, atoms: int, name: str) -> None:
    from pathlib import Path

    from bridge.staging.connection import Connection
    from sim_adapters.imd import ImdEngine

    pipe.recv()
    options = StreamOptions(capacity=64 << 20, keep=16 << 20)
    table = {"port": port, "name": name, "engine": "protocol", "atoms": atoms}
    ImdEngine.from_table(table, Path()).run(
        name, Connection(address=address, options=options, timeout=60.0), seed=0, resume=False
    )


def _consume(pipe: Any, address: str, atoms: int, name: str) -> None:
    topic = f"frames/{name}"
    with StagerClient(address, timeout=60.0) as client:
        pipe.send("ready")
        pipe.recv()
        began = time.perf_counter()
        frames = 0
        position = {topic: 0}
        done = False
        while not done:
            with client.fetch(position, group="g", commit=position, wait=10.0) as got:
                for batch in got.batches:
                    frames += len(batch)
                    assert batch["positions"].shape == (len(batch), atoms, 3)
                position.update(got.positions)
                done = topic in got.finished
        pipe.send((frames, time.perf_counter() - began))


def _alone(target: Any, port: int, atoms: int) -> tuple[int, float]:
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(theirs, port, atoms))
    process.start()
    found: tuple[int, float] = receive(mine, process)
    process.join(30)
    return found


def _through_staging(address: str, port: int, atoms: int, name: str) -> tuple[int, float]:
    """Measured by the consumer, from the moment at which the sidecar is told to begin."""
    mine, theirs = spawn.Pipe()
    give, take = spawn.Pipe()
    consumer = spawn.Process(target=_consume, args=(theirs, address, atoms, name))
    sidecar = spawn.Process(target=_link, args=(take, address, port, atoms, name))
    consumer.start()
    sidecar.start()
    receive(mine, consumer)
    mine.send("go")
    give.send("go")
    found: tuple[int, float] = receive(mine, consumer)
    consumer.join(30)
    sidecar.join(30)
    return found


def _compare(
    address: str, info: SessionInfo, atoms: int, count: int, repeats: int
) -> dict[str, list[float]]:
    """Return frames a second of each way, measured in turn."""
    mine, theirs = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(theirs, info, atoms, count))
    server.start()
    rates: dict[str, list[float]] = {way: [] for way in ("reader", "staging", "imdclient", "bare")}
    try:
        port = receive(mine, server)
        for i in range(repeats):
            name = f"imd-{atoms}-{int(info.forces)}-{i}"
            measured = {
                "reader": _alone(_read_ours, port, atoms),
                "staging": _through_staging(address, port, atoms, name),
                "imdclient": _alone(_read_imdclient, port, atoms),
            }
            size, seconds = _alone(_read_bare, port, atoms)
            rates["bare"].append(size / Layout(info, atoms).size / seconds)
            for way, (frames, seconds) in measured.items():
                assert frames == count, f"{way} has read {frames} of {count} frames."
                rates[way].append(frames / seconds)
    finally:
        server.kill()
        server.join()
    return rates


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    figures = []
    repeats = 2 if quick else 7
    with stager_process() as (address, _):
        for what, info in (("positions", _POSITIONS), ("all packets", _ALL)):
            for atoms, frames in SIZES.items():
                count = int(frames * (QUICK if quick else 1.0) / (3 if info.forces else 1))
                rates = _compare(address, info, atoms, count, repeats)
                size = Layout(info, atoms).size / 1e6
                target = {1_000: 3.0, 100_000: 1.5}[atoms]
                told = {way: statistics.median(found) for way, found in rates.items()}
                for way in ("reader", "staging"):
                    ratios = [a / b for a, b in zip(rates[way], rates["imdclient"], strict=True)]
                    figures.append(
                        figure(
                            f"{atoms} atoms, {what}: {way} to imdclient", ratios, "×",
                            target=target,
                            ours=f"{told[way]:.0f} frames/s, {told[way] * size:.0f} MB/s",
                            imdclient=f"{told['imdclient']:.0f} frames/s, "
                            f"{told['imdclient'] * size:.0f} MB/s",
                            bare=f"{told['bare'] * size:.0f} MB/s",
                        )
                    )  # fmt: skip
    return result("imd", figures)
