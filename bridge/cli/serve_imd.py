"""``headrace serve-imd``: a stream for VMD, imdclient and MDAnalysis."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

from bridge.cli.stager_options import add_stager_arguments
from bridge.cli.stopping import stopped_by_signal
from bridge.errors import ConfigError
from bridge.runs.imd_server import ImdServer
from bridge.runs.keyfiles import client_keys
from bridge.staging.rendezvous import resolve
from bridge.staging.spread import connect

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Serve the frames of a simulation by IMD until Ctrl-C: VMD, imdclient and MDAnalysis "
        "(imd://) can watch it, several at once, whatever engine or file it comes from. Readers "
        "are given the newest frame, and neither slow the stream nor steer the simulation."
    )
    parser.add_argument("simulation", metavar="STREAM", help="name of the simulation")
    parser.add_argument("--port", type=int, default=0, help="where to listen (default: any free)")
    parser.add_argument("--host", default="127.0.0.1", help="address (%(default)s)")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="let other machines connect: IMD has no keys, whoever finds the port can read",
    )
    add_stager_arguments(parser)
    parser.add_argument(
        "--version", type=int, default=3, dest="protocol",
        help="of IMD (%(default)s); 2 for readers that know no other",
    )  # fmt: skip
    parser.add_argument(
        "--every-frame", action="store_true", help="send all frames that are held, in order"
    )
    parser.add_argument(
        "--wait", action="store_true",
        help="keep a reader's place when it leaves, for the next one",
    )  # fmt: skip
    parser.add_argument(
        "--variable", action="append", default=[], metavar="IMD=NAME",
        help="positions=NAME: how the stream calls its positions, velocities, forces or box",
    )  # fmt: skip
    parser.add_argument(
        "--unit", action="append", default=[], metavar="NAME=UNIT",
        help="positions=nm, time=ps: what a variable is in, if the stream does not tell",
    )  # fmt: skip
    parser.add_argument("--readers", type=int, default=16, help="at a time (%(default)s)")
    parser.add_argument(
        "--patience", type=float, default=10.0, help="seconds to wait for the stream"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    keys = client_keys(arguments.keys)
    address = resolve(arguments.stager, arguments.run_directory)
    with stopped_by_signal() as told_to_end:
        server = ImdServer(
            partial(connect, address, name="serve-imd", keys=keys),
            arguments.simulation,
            host=arguments.host,
            port=arguments.port,
            version=arguments.protocol,
            every_frame=arguments.every_frame,
            wait=arguments.wait,
            allow_remote=arguments.allow_remote,
            names=_pairs(arguments.variable, "--variable"),
            units=_pairs(arguments.unit, "--unit"),
            most=arguments.readers,
            patience=arguments.patience,
        )
        if arguments.allow_remote:
            print(
                "headrace: IMD has no keys: whoever reaches this port can read the stream.",
                file=sys.stderr,
            )
        facts = {
            "url": f"imd://{arguments.host}:{server.port}", "port": server.port,
            "simulation": arguments.simulation, "atoms": server.atoms,
            "version": arguments.protocol,
        }  # fmt: skip
        if arguments.json:
            print(json.dumps(facts), flush=True)
        else:
            print(
                f"{arguments.simulation!r}, {server.atoms} atoms, is served at {facts['url']}; "
                "Ctrl-C ends it.",
                flush=True,
            )
        server.serve(told_to_end)
    done = server.statistics()
    print(
        f"{done.served} readers took {done.frames} frames and missed {done.skipped}.",
        file=sys.stderr,
    )
    return 0


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    out = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise ConfigError(f"{option} is {text!r}; write it as positions=NAME.")
        out[name] = value
    return out
