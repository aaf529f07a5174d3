"""What may be served where; certificates; ports that are taken."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.dashboard.options import ServerOptions, bind, is_loopback, make_context
from bridge.errors import AddressInUse, ConfigError
from bridge.staging import Stager
from tests.bridge.dashboard.feeding import Script
from tests.bridge.dashboard.serving import TOKEN, Served

TLS = Path(__file__).parent / "tls"
CERTIFICATE, KEY = str(TLS / "certificate.pem"), str(TLS / "key.pem")


def test_what_is_accepted_sends_at_once() -> None:
    async def accepted() -> int:
        found: asyncio.Queue[int] = asyncio.Queue()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            one = writer.get_extra_info("socket")
            await found.put(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind("127.0.0.1", 0)
        async with await asyncio.start_server(take, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            said = await found.get()
            writer.close()
            await writer.wait_closed()
            return said

    # Else the body of an answer waits 40 ms for its head to be acknowledged.
    assert asyncio.run(accepted()) != 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"host": "0.0.0.0"}, "unencrypted"),
        ({"host": "::"}, "unencrypted"),
        ({"host": "10.0.0.5", "names": ("x.example",)}, "unencrypted"),
        ({"behind_proxy": True}, "--name"),
        ({"token": "short"}, "token"),
        ({"token": "x" * 30 + "&"}, "token"),
        ({"token": ""}, "token"),
        ({"port": 70000}, "port"),
        ({"base_path": "headrace"}, "base path"),
        ({"base_path": "/head race"}, "base path"),
        ({"names": ("a b",)}, "host name"),
        ({"key": "key.pem"}, "certificate"),
    ],
)
def test_what_is_not_served(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        ServerOptions(**{"token": TOKEN, **options})
    assert str(caught.value).endswith(".")


def test_addresses_for_the_browser() -> None:
    options = ServerOptions(token=TOKEN, base_path="/x")
    assert options.url(80) == f"http://127.0.0.1:80/x/?token={TOKEN}"
    assert options.url(80, token=False) == "http://127.0.0.1:80/x/"
    options = ServerOptions(token=TOKEN, host="::1")
    assert options.url(80, token=False) == "http://[::1]:80/"
    proxied = ServerOptions(token=TOKEN, host="0.0.0.0", behind_proxy=True, names=("a.example",))
    assert proxied.url(80, token=False) == "https://a.example/"
    assert ServerOptions(token=TOKEN, host="0.0.0.0", certificate="c").secure


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))


def test_a_port_that_is_taken_is_named() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"port {port} .* is in use.*--port"):
            bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="Cannot serve at 192"):
        bind("192.0.2.1", 0)


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    make_context(CERTIFICATE, KEY)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nnone\n", encoding="ascii")
    for certificate, key in (
        ("no such.pem", KEY),
        (CERTIFICATE, "no such.pem"),
        (str(damaged), KEY),
        (CERTIFICATE, CERTIFICATE),
        (CERTIFICATE, ""),
    ):
        with pytest.raises(ConfigError) as caught:
            make_context(certificate, key)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)


def test_it_is_served_encrypted(live: tuple[Stager, Script]) -> None:
    with Served(live[0].address, certificate=CERTIFICATE, key=KEY) as served:
        trust = ssl.create_default_context(cafile=CERTIFICATE)
        with httpx.Client(base_url=served.origin, verify=trust, timeout=60.0) as client:
            answer = client.get("/", params={"token": TOKEN})
            assert "Secure" in answer.headers["set-cookie"]
            assert client.get("/api/run").status_code == 200
