"""Who is let in, and what every answer says to browsers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from bridge.dashboard.security import TOKEN_FILE, find_token
from bridge.errors import ConfigError
from bridge.staging import Stager
from tests.bridge.dashboard.feeding import Script
from tests.bridge.dashboard.serving import TOKEN, Served

AS_BROWSER = {"Accept": "text/html"}


@pytest.fixture
def stranger(served: Served) -> Iterator[httpx.Client]:
    """Somebody without the token."""
    with httpx.Client(base_url=served.origin, timeout=60.0) as client:
        yield client


def let_in(client: httpx.Client, path: str = "/") -> httpx.Response:
    return client.get(path, params={"token": TOKEN})


def test_the_token_becomes_a_cookie_and_leaves_the_address(
    served: Served, stranger: httpx.Client
) -> None:
    assert stranger.get("/api/run").status_code == 401
    answer = stranger.get("/", params={"token": TOKEN, "at": "5 & 6"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?at=5+%26+6"
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Secure" not in cookie
    assert stranger.get("/").status_code == 200
    assert stranger.get("/api/run").status_code == 200


def test_a_visit_from_another_site_goes_on_by_itself(
    served: Served, stranger: httpx.Client
) -> None:
    answer = stranger.get(
        f"{served.origin}//evil.example/<x>",
        params={"token": TOKEN},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 200
    assert "url=/evil.example/%3Cx%3E" in answer.text


@pytest.mark.parametrize("token", ["_", "wrong", TOKEN[:-1], TOKEN + "x", "ä" * 20])
def test_a_wrong_token_is_told_what_to_do(stranger: httpx.Client, token: str) -> None:
    answer = stranger.get("/", params={"token": token}, headers=AS_BROWSER)
    assert answer.status_code == 401
    assert "headrace dashboard" in answer.text
    assert "set-cookie" not in answer.headers
    answer = stranger.get("/api/run", headers={"Authorization": f"Bearer {token}".encode()})
    assert answer.status_code == 401
    assert answer.json()["error"].endswith(".")


def test_health_alone_needs_no_token(served: Served, stranger: httpx.Client) -> None:
    assert stranger.get("/api/health").json() == {"ok": True}
    for path in ("/", "/static/style.css", "/metrics", "/api/openapi.json", "/no/such"):
        assert stranger.get(path).status_code == 401
    before = served.dashboard.hub.statistics.refused
    assert stranger.post("/api/all", json={}).status_code == 401
    assert served.dashboard.hub.statistics.refused == before + 1


@pytest.mark.parametrize("path", ["/", "/api/run", "/static/style.css", "/no/such", "/metrics"])
def test_every_answer_has_the_headers(served: Served, path: str) -> None:
    with served.client() as client:
        headers = client.get(path).headers
    policy = dict(line.split(" ", 1) for line in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert "server" not in headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[1", None]
)
def test_other_origins_change_nothing(
    served: Served, stranger: httpx.Client, origin: str | None
) -> None:
    let_in(stranger)
    headers = {"Idempotency-Key": "k" * 8, **({"Origin": origin} if origin else {})}
    answer = stranger.post("/api/all", json={"kind": "stop", "confirm": True}, headers=headers)
    assert answer.status_code == 403
    (cookie,) = stranger.cookies.jar
    with pytest.raises(InvalidStatus) as caught:
        served.page(additional_headers={"Cookie": f"{cookie.name}={cookie.value}"}, origin=origin)
    assert caught.value.response.status_code == 403


def test_a_page_of_ones_own_opens_the_socket_with_its_cookie(
    served: Served, stranger: httpx.Client
) -> None:
    let_in(stranger)
    (cookie,) = stranger.cookies.jar
    headers = {"Cookie": f"{cookie.name}={cookie.value}"}
    with served.page(additional_headers=headers, origin=served.origin) as page:
        page.say(type="ping", t=1.0)
        assert page.receive()["type"] == "pong"
    with pytest.raises(InvalidStatus):
        served.page(additional_headers={}, origin=served.origin)


def test_a_name_that_was_pointed_here_is_no_name_of_ours(stranger: httpx.Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        answer = stranger.get("/api/health", headers={"Host": host})
        assert answer.status_code in (400, 421)
    assert stranger.get("/api/health", headers={"Host": "localhost:99"}).status_code == 200


def test_behind_a_proxy_below_a_path(live: tuple[Stager, Script]) -> None:
    options = {"behind_proxy": True, "names": ("lab.example",), "base_path": "/headrace"}
    with Served(live[0].address, **options) as served:
        origin = {"Origin": "https://lab.example", "Host": "lab.example"}
        with httpx.Client(base_url=served.origin, timeout=60.0) as client:
            answer = client.get("/headrace/", params={"token": TOKEN}, headers=origin)
            assert answer.headers["location"] == "/headrace/"
            assert "Secure" in answer.headers["set-cookie"]
            assert "Path=/headrace/" in answer.headers["set-cookie"]
        with served.client(headers=origin) as client:
            # Whether the proxy takes the path off or not.
            assert client.get("/headrace/api/run").status_code == 200
            assert client.get("/api/run").status_code == 200
            assert client.get("/headrace/static/style.css").status_code == 200
            url = client.get("/headrace/api/openapi.json").json()["servers"][0]["url"]
            assert url == "/headrace"
            answer = client.post("/api/all", headers={**origin, "Origin": "http://lab.example"})
            assert answer.status_code == 403


def test_the_token_of_a_run_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    token = find_token(tmp_path)
    assert len(token) >= 24
    assert find_token(tmp_path) == token
    path = tmp_path / TOKEN_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [TOKEN_FILE]
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="Others can read"):
        find_token(tmp_path)
