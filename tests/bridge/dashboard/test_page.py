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


def tokens(start: str) -> dict[str, str]:
    text = (PAGE / "style.css").read_text(encoding="utf-8")
    block = text[text.index(start) :].partition("}")[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21 (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


GROUNDS = ("bg", "surface", "raised", "sunken")
SOFT = ("accent-soft", "warning-soft", "error-soft", "ok-soft")


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'], ids=["light", "dark"])
def test_texts_and_controls_can_be_told_from_their_ground(theme: str) -> None:
    colours = tokens(theme)
    texts = [(text, on) for text in ("text", "text-2", "text-3") for on in (*GROUNDS, *SOFT)]
    texts += [(text, on) for text in ("accent", "ok", "warning", "error") for on in GROUNDS]
    texts += [(text, f"{text}-soft") for text in ("accent", "ok", "warning", "error")]
    texts += [("info", "accent-soft"), ("on-accent", "accent")]
    graphics = [(mark, on) for mark in ("control", "accent", "error-mark") for on in GROUNDS]
    poor = {
        (one, on): round(contrast(colours[one], colours[on]), 2)
        for least, pairs in ((4.5, texts), (3.0, graphics))
        for one, on in pairs
        if contrast(colours[one], colours[on]) < least
    }
    assert not poor


@pytest.mark.parametrize("path", STYLES, ids=name)
def test_nothing_moves_for_those_who_asked_for_that(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    still, _, _ = text.partition("@media (prefers-reduced-motion: no-preference)")
    assert not re.search(r"\b(animation|transition|scroll-behavior)\s*:", still)


def test_the_systems_dark_is_the_chosen_dark() -> None:
    assert tokens(':root:not([data-theme="light"]) {') == tokens(':root[data-theme="dark"] {')


def test_all_of_it_is_at_most_two_megabytes_compressed() -> None:
    files = [p for p in PAGE.rglob("*") if p.is_file()]
    assert sum(len(gzip.compress(p.read_bytes(), 6)) for p in files) <= 2_000_000
