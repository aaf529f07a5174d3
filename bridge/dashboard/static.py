"""The files of the page: from memory, compressed once, with a tag by which browsers ask again."""

from __future__ import annotations

import gzip
import mimetypes
from dataclasses import dataclass
from pathlib import Path

import xxhash
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["PAGE", "Files"]

PAGE = Path(__file__).parent / "page"
"""Folder of the page."""

TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
SMALL = 512
"""Bytes below which compression is not worth its while."""


@dataclass(frozen=True, slots=True)
class _File:
    changed: int
    tag: str
    kind: str
    plain: bytes
    packed: bytes | None


class Files:
    """The files below one folder.

    They are not named after what is in them, so browsers ask each time whether theirs is the
    newest (``no-cache`` and a tag), which costs a line each way.

    Parameters
    ----------
    folder
        Nothing outside of it is served, and nothing that begins with a dot.
    """

    def __init__(self, folder: Path = PAGE) -> None:
        self._folder = folder.resolve()
        self._files: dict[str, _File] = {}

    def respond(self, request: Request, name: str) -> Response:
        """Return a file, or that the browser's is still good, or that there is none."""
        file = self._find(name)
        if file is None:
            return JSONResponse({"error": "There is no such file."}, status_code=404)
        headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        body = file.plain
        if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"], body = "gzip", file.packed
        return Response(body, headers=headers, media_type=file.kind)

    def _find(self, name: str) -> _File | None:
        parts = name.split("/")
        if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
            return None
        path = self._folder.joinpath(*parts)
        try:
            if not path.resolve().is_relative_to(self._folder) or not path.is_file():
                return None
            changed = path.stat().st_mtime_ns
            known = self._files.get(name)
            if known is None or known.changed != changed:
                known = self._files[name] = _read(path, changed)
            return known
        except OSError:
            return None


def _read(path: Path, changed: int) -> _File:
    data = path.read_bytes()
    kind = (
        TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    )
    packed = gzip.compress(data, 6, mtime=0) if len(data) > SMALL else None
    if packed is not None and len(packed) > 0.9 * len(data):
        packed = None
    return _File(changed, f'"{xxhash.xxh3_128_hexdigest(data)}"', kind, data, packed)
