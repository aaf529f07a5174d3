"""The public suite finds the faults that it is there for: each transport here has one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge.testing import transports as suite
from bridge.transports import Buffer, Channel, Listener
from bridge.transports.memory import MemoryChannel, MemoryListener


class Sound:
    """The in-memory transport, with the ends that a faulty one replaces."""

    channel: type[MemoryChannel] = MemoryChannel
    listener: type[MemoryListener] = MemoryListener

    def listen(self, address: str = "") -> Listener:
        return self.listener(address.removeprefix("memory://"))

    def connect(self, address: str) -> Channel:
        return self.channel(address, name=address.removeprefix("memory://"))


class Forgetful(MemoryChannel):
    """Loses empty parts."""

    def send(self, parts: Sequence[Buffer]) -> None:
        super().send([part for part in parts if len(part)] or [b"?"])


class Hasty(MemoryChannel):
    """Sends large messages before small ones that were there first."""

    kept: Sequence[Buffer] | None = None

    def send(self, parts: Sequence[Buffer]) -> None:
        if len(parts) > 1 and self.kept is None and len(parts[1]) < 100:
            self.kept = list(parts)
            return
        super().send(parts)
        if self.kept is not None:
            super().send(self.kept)
            self.kept = None


class Writable(MemoryListener):
    """Hands out memory that can be written."""

    def receive(self, timeout: float) -> tuple[bytes, list[memoryview]] | None:
        message = super().receive(timeout)
        if message is None:
            return None
        return message[0], [memoryview(bytearray(part)) for part in message[1]]


class Deaf(MemoryChannel):
    """Is not woken."""

    def wake(self) -> None:
        pass


class Reopening(MemoryChannel):
    """Pretends to work after it was closed."""

    def send(self, parts: Sequence[Buffer]) -> None:
        if not self._inbox.closed:
            super().send(parts)


class Trusting(MemoryListener):
    """Never says that a peer is gone."""

    def send(self, peer: bytes, parts: Sequence[Buffer]) -> bool:
        super().send(peer, parts)
        return True


@pytest.mark.parametrize(
    ("end", "check"),
    [
        (Forgetful, suite.check_sizes),
        (Hasty, suite.check_order),
        (Writable, suite.check_round_trip),
        (Deaf, suite.check_wake),
        (Reopening, suite.check_close),
        (Trusting, suite.check_statistics),
    ],
)
def test_a_faulty_transport_is_found(
    end: type, check: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Sound()
    transport.channel = end if issubclass(end, MemoryChannel) else MemoryChannel
    transport.listener = end if issubclass(end, MemoryListener) else MemoryListener
    # What never comes is waited for: briefly here.
    monkeypatch.setattr("bridge.testing.transport_tools.PATIENCE", 0.1)
    monkeypatch.setattr("bridge.testing.transport_traffic.PATIENCE", 0.1)
    assert callable(check)
    with pytest.raises(AssertionError):
        check(transport)


def test_a_sound_transport_passes_all_of_it() -> None:
    suite.check_transport(Sound())


def test_every_check_is_public_and_run() -> None:
    named = {name for name in suite.__all__ if name.startswith("check_")} - {"check_transport"}
    assert named == {check.__name__ for check in suite.CHECKS}
