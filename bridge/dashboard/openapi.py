"""The description of the interface (OpenAPI 3.1), made from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import msgspec

from bridge.dashboard.routes import Route

__all__ = ["describe"]

_ERRORS = {
    400: "The request is not understood.",
    401: "The token is missing or wrong.",
    403: "The request comes from a page of another origin.",
    404: "There is no such simulation, column, frame or command.",
    409: "The state of things does not allow it, or the key was used for something else.",
    421: "The request names a host that is not this dashboard.",
    422: "The command is refused: outside of the declared bounds, or not allowed.",
    503: "The stager is away, or a package is missing.",
}
_PLACES = {
    "simulation": {"type": "string"},
    "offset": {"type": "string", "pattern": "^([0-9]+|latest)$"},
    "command": {"type": "string", "description": "The command's id; slashes may be in it."},
}


def describe(routes: Sequence[Route], base_path: str = "") -> dict[str, Any]:
    """Return the description.

    Parameters
    ----------
    routes
        What there is.
    base_path
        What addresses begin with.
    """
    structs = [s for r in routes for s in (r.query, r.body) if s is not None]
    _, schemas = msgspec.json.schema_components(
        dict.fromkeys(structs), ref_template="#/components/schemas/{name}"
    )
    schemas["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string", "description": "A sentence."}},
    }
    paths: dict[str, Any] = {}
    for route in routes:
        path = re.sub(r":\w+}", "}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace dashboard",
            "version": _version(),
            "description": (
                "What a run is doing, and what may be done to it. Numbers that are not finite are "
                "null. The same questions can be asked over the WebSocket at /ws, which sends what "
                "is new; see docs/dashboard.md."
            ),
        },
        "servers": [{"url": base_path or "/"}],
        "security": [{"bearer": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The token."},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "headrace-…"},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PLACES[name]}
        for name in re.findall(r"{(\w+)", route.path)
    ]
    if route.query is not None:
        schema = schemas[route.query.__name__]
        for name, kind in schema.get("properties", {}).items():
            one: dict[str, Any] = {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": kind,
            }
            if _is_list(kind):
                # Lists are written with commas.
                one |= {"style": "form", "explode": False}
            parameters.append(one)
    told: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if route.method == "POST":
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "schema": {"type": "string", "minLength": 8, "maxLength": 128},
                "description": "The same where the same action is tried again.",
            }
        )
    if parameters:
        told["parameters"] = parameters
    if route.body is not None:
        reference = {"$ref": f"#/components/schemas/{route.body.__name__}"}
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    content = {
        kind: {"schema": {"type": "string"} if keys is None else _object(keys)}
        for kind, keys in route.answers.items()
    }
    told["responses"] = {"200": {"description": "The answer.", "content": content}}
    open_to_all = route.name == "health"
    if open_to_all:
        told["security"] = []
    for code in sorted({*route.errors, *(() if open_to_all else (401,)), 421}):
        told["responses"][str(code)] = {
            "description": _ERRORS[code],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return told


def _object(keys: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "required": list(keys)} if keys else {"type": "object"}


def _is_list(kind: dict[str, Any]) -> bool:
    return kind.get("type") == "array" or any(_is_list(one) for one in kind.get("anyOf", ()))


def _version() -> str:
    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return "unknown"
