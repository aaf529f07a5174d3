"""The interface over HTTP: as it describes itself, with errors that are sentences."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bridge.dashboard.routes import ROUTES
from bridge.dashboard.static import PAGE
from tests.bridge.dashboard.serving import TOKEN, Served

QUERIES: dict[str, dict[str, Any]] = {
    "series": {"columns": "novelty,tica[0]", "simulations": "a"},
    "points": {"x": "tica[0]", "y": "tica[1]", "limit": 10},
    "histogram": {"x": "tica[0]", "bins": 4, "range": "-1,1"},
    "frame": {"atoms": "ca"},
    "export": {"frames": "a:0,a:1", "format": "pdb"},
}
BODIES: dict[str, dict[str, Any]] = {
    "approve": {"verdict": "deny"},
    "command": {"kind": "pause", "simulation": "a", "reason": "To look."},
    "all": {"kind": "resume", "confirm": True},
}


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    """A program with the token."""
    with served.client() as found:
        yield found


@pytest.fixture(scope="module")
def description(client: httpx.Client) -> dict[str, Any]:
    """The description of the interface."""
    found: dict[str, Any] = client.get("/api/openapi.json").json()
    return found


def test_the_description_has_every_route_and_no_other(
    served: Served, description: dict[str, Any]
) -> None:
    assert description["openapi"].startswith("3.1.")
    described = {
        (method.upper(), path) for path, found in description["paths"].items() for method in found
    }
    app = served.dashboard.app()
    answered = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in app.routes
        for method in (getattr(route, "methods", None) or set()) - {"HEAD"}
    }
    assert described == answered - {("GET", "/"), ("GET", "/static/{name}")}
    names = [o["operationId"] for found in description["paths"].values() for o in found.values()]
    assert len(names) == len(set(names)) == len(ROUTES)


def test_references_within_the_description_lead_somewhere(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    for name in re.findall(r"#/components/schemas/(\w+)", str(description)):
        assert name in schemas


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_route_answers_as_it_is_described(
    client: httpx.Client, description: dict[str, Any], route: Any
) -> None:
    path = re.sub(r":\w+}", "}", route.path)
    told = description["paths"][path][route.method.lower()]
    url = path.format(simulation="a", offset="latest", command="p/1")
    if route.method == "POST":
        answer = client.post(
            url, json=BODIES[route.name], headers={"Idempotency-Key": f"a-key-to-{route.name}"}
        )
    else:
        answer = client.get(url, params=QUERIES.get(route.name, {}))
    assert str(answer.status_code) in told["responses"], answer.text
    if route.name == "approve":
        # Nobody was asked about this one.
        assert answer.status_code == 422
        assert answer.json()["error"].endswith(".")
        return
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"].partition(";")[0]
    content = told["responses"]["200"]["content"][kind]["schema"]
    if kind == "application/json":
        assert set(content.get("required", ())) <= set(answer.json())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/points?x=tica[0]", 400),
        ("/api/points?x=nothing&y=tica[0]", 400),
        ("/api/events?limit=many", 400),
        ("/api/events?nearest=1", 400),
        ("/api/frames/nobody/latest", 404),
        ("/api/frames/a/first", 400),
        ("/api/frames/a/999999", 404),
        (f"/api/frames/a/{'9' * 30}", 400),
        ("/api/frames/a/latest?atoms=99999999999999999999", 400),
        (f"/api/export?frames=a:{'9' * 30}", 400),
        ("/api/export?frames=a:0&atoms=some", 400),
        ("/api/points?x=tica[0]&y=tica[1]&run=other", 400),
        ("/api/histogram?x=tica[0]&y=tica[1]&range=0,1", 400),
        ("/api/histogram?x=tica[0]&range=0,1,2", 400),
        ("/api/export?frames=a", 400),
        ("/api/export?frames=a:0&format=doc", 400),
        ("/api/topology/nobody", 404),
        ("/api/no/such/thing", 404),
        ("/static/../security.py", 404),
        ("/static/%2e%2e/security.py", 404),
        ("/static/js/..%2f..%2f..%2fapp.py", 404),
        ("/static//etc/passwd", 404),
        ("/static/.hidden", 404),
        ("/static/", 404),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_sentence(
    client: httpx.Client, path: str, status: int
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"][-1:]) == (status, ".")
    assert "Traceback" not in answer.text


def test_methods_that_an_address_does_not_take(client: httpx.Client) -> None:
    assert client.delete("/api/run").status_code == 405
    assert client.get("/api/commands").status_code == 405


def test_tables_as_csv(client: httpx.Client) -> None:
    text = client.get(
        "/api/points", params={"x": "tica[0]", "y": "novelty", "simulations": "b", "format": "csv"}
    ).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["simulation"] for row in rows} == {"b"}
    assert [float(row["y"]) for row in rows] == list(range(30))
    text = client.get(
        "/api/series", params={"columns": "novelty", "simulations": "b", "format": "csv"}
    ).text
    found = list(csv.DictReader(io.StringIO(text)))
    assert [(row["column"], float(row["y"])) for row in found] == [
        ("novelty", float(i)) for i in range(30)
    ]
    text = client.get(
        "/api/histogram", params={"x": "novelty", "bins": 3, "simulations": "b", "format": "csv"}
    ).text
    assert [float(row["value"]) for row in csv.DictReader(io.StringIO(text))] == [10, 10, 10]


def test_frames_as_files(client: httpx.Client) -> None:
    answer = client.get("/api/frames/a/latest", params={"format": "pdb"})
    assert answer.status_code == 200
    assert "ATOM" in answer.text
    assert "attachment" in answer.headers["content-disposition"]
    for path, chosen in (("frames/a/latest", {}), ("export", {"frames": "a:0"})):
        for atoms, count in (("", 12), ("ca", 2), ("0,5,7", 3)):
            query = {"format": "pdb", "atoms": atoms, **chosen}
            answer = client.get(f"/api/{path}", params=query)
            assert answer.text.count("\nATOM") == count, (path, atoms, answer.text)


def test_large_answers_are_compressed_for_those_who_can(client: httpx.Client) -> None:
    answer = client.get("/api/openapi.json")
    assert answer.headers["content-encoding"] == "gzip"
    answer = client.get("/api/openapi.json", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers


def test_the_page_is_served_once(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "static/js/main.js" in answer.text
    tag = answer.headers["etag"]
    again = client.get("/", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    style = client.get("/static/style.css")
    assert style.headers["content-encoding"] == "gzip"
    assert style.headers["content-type"].startswith("text/css")
    assert style.headers["cache-control"] == "no-cache"


def test_every_file_of_the_page_has_a_type_and_is_not_large(client: httpx.Client) -> None:
    total = 0
    for path in sorted(PAGE.rglob("*")):
        if path.is_file():
            answer = client.get(f"/static/{path.relative_to(PAGE)}")
            assert answer.status_code == 200, path
            total += int(answer.headers["content-length"])
            if path.suffix in (".js", ".mjs"):
                assert answer.headers["content-type"].startswith("text/javascript")
    assert total < 2_000_000


def test_a_request_must_be_json_and_have_a_key(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "12345678"}
    body = BODIES["command"]
    for answer in (
        client.post("/api/commands", json=body),
        client.post("/api/commands", json=body, headers={"Idempotency-Key": "short"}),
        client.post("/api/commands", content=b"{}", headers={**key, "Content-Type": "text/plain"}),
        client.post("/api/commands", json={"kind": "explode", "simulation": "a"}, headers=key),
        client.post("/api/commands", json={**body, "force": True}, headers=key),
        client.post("/api/commands", json={**body, "reason": "x" * 70_000}, headers=key),
    ):
        assert (answer.status_code, answer.json()["error"][-1:]) == (400, ".")
    unsure = {"kind": "stop", "confirm": False}
    assert client.post("/api/all", json=unsure, headers=key).status_code == 422


def test_the_token_is_in_no_answer(client: httpx.Client) -> None:
    for path in ("/", "/api/run", "/api/openapi.json", "/metrics", "/api/report.html"):
        assert TOKEN not in client.get(path).text
