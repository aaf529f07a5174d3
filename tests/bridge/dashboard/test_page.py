"""The files of the page: whole, small, and without a way for data to become markup."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

import bridge.dashboard

PAGE = Path(bridge.dashboard.__file__).parent / "page"
OURS = sorted(p for p in PAGE.rglob("*.js") if "vendor" not in p.relative_to(PAGE).parts)
STYLES = sorted(p for p in PAGE.rglob("*.css") if "vendor" not in p.relative_to(PAGE).parts)
VIEWS = ("overview", "embedding", "molecule", "observables", "pipeline", "steering", "events")


def name(path: Path) -> str:
    return path.relative_to(PAGE).as_posix()


@pytest.mark.parametrize("path", OURS, ids=name)
def test_modules_import_what_there_is_and_make_no_markup_of_data(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"""(?:from|import)\s*\(?\s*["'](\.{1,2}/[^"'$]+)["']""", text):
        assert (path.parent / target).resolve().is_file(), target
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in text
    # A name space of XML, and references in comments, are no requests.
    code = re.sub(r"^\s*(//|\*|/\*).*$", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"https?://[^\s\"'`/]+", code)) <= {"http://www.w3.org"}


@pytest.mark.parametrize("path", STYLES, ids=name)
def test_styles_ask_nobody(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(url\(|@import)\s*[\"']?([a-z]+:)?//", text)
    for target in re.findall(r"@import\s+\"([^\"]+)\"", text):
        assert (path.parent / target).resolve().is_file(), target


def test_the_first_file_has_nothing_inline_and_names_what_there_is() -> None:
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)
    assert re.findall(r"<script[^>]*>([^<]*)</script>", text) == ["", ""]
    for target in re.findall(r"(?:href|src)=\"([^\"#]+)\"", text):
        assert target.startswith("static/")
        assert (PAGE / target.removeprefix("static/")).is_file(), target


def test_each_view_is_there() -> None:
    for view in VIEWS:
        text = (PAGE / "js" / "views" / f"{view}.js").read_text(encoding="utf-8")
        assert "export function mount(root, " in text


def test_all_of_it_is_at_most_two_megabytes_compressed() -> None:
    files = [p for p in PAGE.rglob("*") if p.is_file()]
    assert sum(len(gzip.compress(p.read_bytes(), 6)) for p in files) <= 2_000_000
