"""``headrace dashboard``: a page that shows what a run does, and lets people steer it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import threading
import webbrowser
from pathlib import Path
from typing import Any

from rich.console import Console

from bridge.errors import ConfigError
from bridge.extras import needs
from bridge.runs.dashboard_tables import SHARE

__all__ = ["add_arguments", "execute"]

PATIENCE = 3.0
"""Seconds until a stager that does not answer is told of."""

NICE = 10
"""By how much it gives way: as much as simulations do, and the dashboard that a run begins."""

TOKEN = "HEADRACE_DASHBOARD_TOKEN"
"""Environment variable with a token of one's own; otherwise the run's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Serve the dashboard of a run, while it runs and afterwards, until Ctrl-C. Open the "
        "address that is printed: it has the token in it. It may be started late and more than "
        f"once, and takes nothing away from the run. {TOKEN} sets another token."
    )
    parser.add_argument("run", metavar="RUN_DIR|ADDRESS", help="folder of a run, or its stager")
    parser.add_argument("--keys", default="", help="folder of keys, for an ADDRESS with keys")
    parser.add_argument("--pipeline", help="which one to show, where there are several")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port (default: any free one)")
    parser.add_argument("--certificate", default="", metavar="FILE", help="for TLS, PEM")
    parser.add_argument("--key", default="", metavar="FILE", help="of the certificate, PEM")
    parser.add_argument("--base-path", default="", metavar="/PATH", help="below which to serve")
    parser.add_argument(
        "--behind-proxy", action="store_true", help="a proxy in front encrypts; needs --name"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="HOST[:PORT]", dest="names",
        help="what browsers call it, if not by its address; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--compare", action="append", default=[], type=Path, metavar="RUN_DIR",
        help="another run, to lay its observables over this one's; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--share", type=float, default=None,
        help="part of this machine's processors that it takes at most while none is idle; it "
        f"shows less often then (default: that of the run, or {SHARE:g}; 1: no limit)",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="open a browser")


def execute(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    with needs("dashboard", "the dashboard"):
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401

    from bridge.dashboard.opening import open_dashboard
    from bridge.dashboard.options import bind
    from bridge.dashboard.server import serve
    from bridge.priority import clean_up_rarely, give_way

    logging.basicConfig(
        level=os.environ.get("HEADRACE_LOG", "WARNING").upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    run: Path | None = None
    if "://" not in arguments.run:
        run = Path(arguments.run)
        if not run.is_dir():
            raise ConfigError(
                f"{run} is not the folder of a run: there is no such folder. Name the folder that "
                "headrace run printed, or the address of a stager (tcp://...)."
            )
    dashboard, options = open_dashboard(
        run,
        address=None if run is not None else arguments.run,
        token=os.environ.get(TOKEN, ""),
        keys=arguments.keys,
        pipeline=arguments.pipeline,
        host=arguments.host,
        port=arguments.port,
        certificate=arguments.certificate,
        key=arguments.key,
        base_path=arguments.base_path.rstrip("/"),
        behind_proxy=arguments.behind_proxy,
        names=tuple(arguments.names),
        compare=arguments.compare,
        **({} if arguments.share is None else {"share": arguments.share}),
    )
    # Whoever watches gives way to what is watched. With 19 it would go without ten pictures a
    # second beside a browser that draws on the same processors.
    give_way(NICE)
    clean_up_rarely()
    try:
        listener = bind(options.host, options.port)
        port = listener.getsockname()[1]
        url = options.url(port)
        console = Console(stderr=True)
        if arguments.json:
            facts = {"url": url, "address": options.url(port, token=False), "token": options.token}
            print(json.dumps({**facts, "port": port}), flush=True)
        else:
            print(f"Dashboard: {url}", flush=True)
            console.print("Ctrl-C ends the dashboard, not the run.", style="dim")
        if arguments.open:
            webbrowser.open(url)
        complaint = threading.Timer(PATIENCE, _complain, (dashboard.feed, console))
        complaint.daemon = True
        complaint.start()
        stop = threading.Event()
        before = {
            number: signal.signal(number, lambda *_: stop.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            serve(dashboard, listener, stop, farewell="This dashboard was ended.")
        finally:
            complaint.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)
    finally:
        dashboard.feed.close()
    return 0


def _complain(feed: Any, console: Console) -> None:
    """Say so where the stager has not been heard of; the page waits for it all the same."""
    facts = feed.run()
    if facts["state"] in ("waiting", "lost"):
        told = "Nothing was heard of the run yet; the page shows it once its stager answers."
        console.print(f"{told} {facts['error']}".rstrip(), markup=False, soft_wrap=True)
