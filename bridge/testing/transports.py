"""What every transport must do, as checks that need no test framework.

`check_transport` runs all of them; a failed one raises `AssertionError`. With pytest::

    from bridge.testing.transports import CHECKS

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_transport(check):
        check(MyTransport())

where ``MyTransport`` is a `Transport`: it opens both ends. `bridge.transports.protocol` says what
is promised. No check depends on speed; all give up after `PATIENCE` seconds.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.testing.transport_lives import (
    check_address_in_use,
    check_close,
    check_close_ends_receive,
    check_close_sends_what_is_queued,
    check_late_listener,
    check_nothing_leaks,
    check_peer_left,
    check_restarted_listener,
)
from bridge.testing.transport_tools import PATIENCE, Transport
from bridge.testing.transport_traffic import (
    check_answers_find_their_peer,
    check_buffers_are_let_go,
    check_order,
    check_round_trip,
    check_send_beside_receive,
    check_send_never_blocks,
    check_shapes,
    check_sizes,
    check_statistics,
    check_time_limit,
    check_wake,
)

__all__ = [
    "CHECKS",
    "PATIENCE",
    "Transport",
    "check_address_in_use",
    "check_answers_find_their_peer",
    "check_buffers_are_let_go",
    "check_close",
    "check_close_ends_receive",
    "check_close_sends_what_is_queued",
    "check_late_listener",
    "check_nothing_leaks",
    "check_order",
    "check_peer_left",
    "check_restarted_listener",
    "check_round_trip",
    "check_send_beside_receive",
    "check_send_never_blocks",
    "check_shapes",
    "check_sizes",
    "check_statistics",
    "check_time_limit",
    "check_transport",
    "check_wake",
]

CHECKS: tuple[Callable[[Transport], None], ...] = (
    check_round_trip,
    check_order,
    check_sizes,
    check_shapes,
    check_answers_find_their_peer,
    check_time_limit,
    check_wake,
    check_send_beside_receive,
    check_peer_left,
    check_late_listener,
    check_restarted_listener,
    check_send_never_blocks,
    check_buffers_are_let_go,
    check_address_in_use,
    check_close,
    check_close_ends_receive,
    check_close_sends_what_is_queued,
    check_statistics,
    check_nothing_leaks,
)


def check_transport(transport: Transport) -> None:
    """Run all checks, in order."""
    for check in CHECKS:
        check(transport)
