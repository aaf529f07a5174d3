"""The tables ``[dashboard]`` and ``[dashboard.alarms]`` of ``run.toml``."""

from __future__ import annotations

from typing import Literal

import msgspec

from bridge.config import parse_bytes, parse_duration
from bridge.errors import ConfigError

__all__ = ["SHARE", "AlarmTable", "DashboardTable", "check_share"]

SHARE = 0.01
"""Part of a machine's processors that a dashboard takes at most while none of them is idle."""


def check_share(share: float) -> None:
    """Raise a `ConfigError` for a part that is none."""
    if not 0 < share <= 1:
        raise ConfigError(
            f"The part of the processors that a dashboard takes, 'share', is {share:g}; it must be "
            "greater than 0, and at most 1 (no limit)."
        )


class AlarmTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the dashboard raises an alarm.

    Attributes
    ----------
    lag_above
        Frames of one simulation that wait to be analysed; 0 for never.
    no_frame_for
        How long no frame has come from a simulation that runs; empty for never.
    non_finite
        Frames were set aside: a value was not finite, or an operator failed.
    event_level
        Events at least as grave as this; ``off`` for none.
    hold
        How long an alarm of something that happened once is shown.
    webhook
        Address that is told of each alarm that begins or ends, by a POST of JSON; empty for none.
    webhook_timeout
        How long one attempt may take; there are three.
    """

    lag_above: int = 1000
    no_frame_for: str = "60 s"
    non_finite: bool = True
    event_level: Literal["off", "info", "warning", "error"] = "error"
    hold: str = "5 min"
    webhook: str = ""
    webhook_timeout: str = "5 s"

    def __post_init__(self) -> None:
        if self.lag_above < 0:
            raise ConfigError(f"The key 'lag_above' must not be negative; it is {self.lag_above}.")
        for text in filter(None, (self.no_frame_for, self.hold, self.webhook_timeout)):
            parse_duration(text)
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ConfigError(
                "The key 'webhook' is an address that begins with http:// or https://."
            )


class DashboardTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dashboard that ``headrace run`` starts beside the run; see docs/dashboard.md.

    Attributes
    ----------
    enabled
        Start one; ``--no-dashboard`` does not.
    host, port
        Where it listens; port 0 for any free one.
    certificate, key
        Files for TLS, from the folder of the run.toml; needed where `host` is not loopback.
    base_path, behind_proxy, names
        See `bridge.dashboard.options.ServerOptions`.
    nice
        By how much it gives way to the engine and the stager.
    share
        See `bridge.dashboard.options.ServerOptions`.
    recording
        Bytes that the recording in the run's folder may take.
    alarms
        See `AlarmTable`.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 0
    certificate: str = ""
    key: str = ""
    base_path: str = ""
    behind_proxy: bool = False
    names: tuple[str, ...] = ()
    nice: int = 10
    share: float = SHARE
    recording: str | int = "200 MB"
    alarms: AlarmTable = AlarmTable()

    def __post_init__(self) -> None:
        if not 0 <= self.nice <= 19:
            raise ConfigError(f"The key 'nice' must be from 0 to 19; it is {self.nice}.")
        check_share(self.share)
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"The key 'port' must be from 0 (any) to 65535; it is {self.port}.")
        parse_bytes(self.recording)
