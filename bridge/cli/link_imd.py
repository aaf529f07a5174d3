"""``headrace link-imd``: the frames of a running engine that speaks IMD, as a stream."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
from pathlib import Path
from typing import Any

from rich.console import Console

from bridge.cli.stager_options import (
    add_stager_arguments,
    add_stream_arguments,
    read_stream_options,
)
from bridge.errors import ConfigError
from bridge.runs.adapters import load_adapter
from bridge.runs.keyfiles import client_keys
from bridge.staging.connection import Connection
from bridge.staging.rendezvous import resolve
from bridge.staging.spread import connect

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Join the IMD session of a running engine (GROMACS, NAMD, LAMMPS and others) and put every "
        "frame into a stager, in nm, ps and kJ/mol; pass on commands to pause, resume and stop, "
        "for another interval and for forces. The engine needs no change."
    )
    parser.add_argument("engine_at", metavar="HOST:PORT", help="where the engine listens")
    stream = parser.add_argument_group("the stream")
    stream.add_argument("--simulation", default="imd", help="its name (%(default)s)")
    add_stager_arguments(stream)
    add_stream_arguments(stream)
    stream.add_argument(
        "--again", action="store_true", help="go on after the last frame of an earlier session"
    )
    units = parser.add_argument_group("units, which IMD does not tell")
    units.add_argument(
        "--engine",
        default="",
        help="gromacs, namd, lammps, or protocol for another that keeps to the protocol's units",
    )
    units.add_argument("--units", default="", metavar="STYLE", help="of LAMMPS: real, metal, lj...")
    gaps = parser.add_argument_group("what the engine may not send (version 2 sends little)")
    gaps.add_argument("--topology", default="", help="a file that MDAnalysis reads: names, box")
    gaps.add_argument("--atoms", type=int, default=0, help="number of atoms that must come")
    gaps.add_argument(
        "--box",
        default="",
        metavar="NUMBERS",
        help="lengths in nm, 3 with commas between; 6 with angles in degrees; or 9 components",
    )
    gaps.add_argument("--timestep", type=float, default=0.0, help="length of a step, in ps")
    gaps.add_argument("--start-time", type=float, default=0.0, help="of step 0, in ps")
    gaps.add_argument("--every", type=int, default=0, help="steps between frames, if not numbered")
    gaps.add_argument(
        "--first-step", type=int, default=-1, help="step of the first frame (default: --every)"
    )
    gaps.add_argument(
        "--energies",
        action="store_true",
        help="energies will come (version 2), though the first frame may have none",
    )
    steer = parser.add_argument_group("steering")
    steer.add_argument("--rate", type=int, default=0, help="ask for a frame each so many steps")
    steer.add_argument(
        "--pull",
        action="append",
        default=[],
        metavar="NAME=ATOMS:MIN:MAX",
        help="atoms (0,4,7-9; counted from 0) that may be pulled at, with bounds in kJ/mol/nm",
    )
    steer.add_argument(
        "--when-left",
        choices=("wait", "go-on"),
        help="what a version 3 engine is to do once we leave (default: as it was started)",
    )
    waits = parser.add_argument_group("time limits, in seconds")
    waits.add_argument("--patience", type=float, default=30.0, help="to find the engine")
    waits.add_argument("--silence", type=float, default=600.0, help="without a word from it")
    waits.add_argument(
        "--reconnect", type=float, default=0.0, help="to look for it again once it is gone"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Carry frames and commands until the engine ends."""
    host, port = _place(arguments.engine_at)
    table: dict[str, Any] = {
        "adapter": "imd", "host": host, "port": port, "name": arguments.simulation,
        "box": _numbers(arguments.box),
        "pull": dict(_group(text) for text in arguments.pull),
        "topology": str(Path(arguments.topology).absolute()) if arguments.topology else "",
        "wait": {"wait": True, "go-on": False, None: None}[arguments.when_left],
    }  # fmt: skip
    for name in (
        "engine", "units", "atoms", "timestep", "start_time", "every", "first_step", "energies",
        "rate", "patience", "silence", "reconnect",
    ):  # fmt: skip
        table[name] = getattr(arguments, name)
    adapter = load_adapter(table, Path.cwd(), "headrace link-imd")
    options = read_stream_options(arguments)
    keys = client_keys(arguments.keys)
    address = resolve(arguments.stager, arguments.run_directory)
    connection = Connection(address=address, keys=keys, options=options)
    # Whatever ends us, the engine must be told: LAMMPS would wait for the rest of a packet forever.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    with console.status(f"{arguments.engine_at} to {address} as {arguments.simulation!r}"):
        adapter.run(arguments.simulation, connection, seed=0, resume=arguments.again)
    with contextlib.closing(connect(address, name="link-imd", keys=keys)) as client:
        status = client.status(f"frames/{arguments.simulation}")
    if arguments.json:
        facts = {
            "simulation": arguments.simulation, "address": address, "frames": status.end,
            "step": status.last_step, "dropped": status.dropped, "finished": status.finished,
        }  # fmt: skip
        print(json.dumps(facts))
    else:
        print(
            f"The engine has ended; {status.end} frames of {arguments.simulation!r}, up to step "
            f"{status.last_step}, are in {address}."
        )
    return 0


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.removeprefix("imd://").rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ConfigError(f"{text!r} does not say where the engine is; write HOST:PORT.")
    return host.strip("[]"), int(port)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"--box is {text!r}; write numbers with commas between them.") from None


def _group(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``NAME=ATOMS:MIN:MAX``."""
    name, _, rest = text.partition("=")
    atoms, _, bounds = rest.partition(":")
    low, _, high = bounds.partition(":")
    chosen: list[int] = []
    try:
        for word in atoms.split(","):
            first, dash, last = word.partition("-")
            chosen += range(int(first), int(last if dash else first) + 1)
        return name, {"atoms": chosen, "minimum": float(low), "maximum": float(high)}
    except ValueError:
        raise ConfigError(
            f"--pull is {text!r}; write NAME=ATOMS:MIN:MAX, such as tip=0,4,7-9:-500:500."
        ) from None
