"""Scopes of operators are those that the classes say, though none of them is imported."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from bridge.dashboard.scopes import GROUP, find_scope

LIGHT = ("contact_map", "density_map", "pca", "tica", "restart")


def test_scopes_of_registered_operators() -> None:
    points = {p.name: p for p in metadata.entry_points(group=GROUP)}
    names = [name for name in LIGHT if name in points]
    assert names
    for name in names:
        assert find_scope(name) == points[name].load().scope, name
    assert all(find_scope(name) for name in points), "Every one of ours is known."
    assert find_scope("nobody") == ""
    assert find_scope("os:path") == ""
    assert find_scope("../etc:passwd") == ""


def test_a_module_of_the_run_is_read_and_not_run(tmp_path: Path) -> None:
    text = "from bridge import KeyedOperator\n\nclass Mine(KeyedOperator):\n    pass\n1 / 0\n"
    (tmp_path / "own_operator.py").write_text(text)
    assert find_scope("own_operator:Mine", str(tmp_path)) == "keyed"
    (tmp_path / "broken.py").write_text("class (")
    assert find_scope("broken:Mine", str(tmp_path)) == ""


def test_a_feed_starts_without_anything_heavy() -> None:
    code = (
        "import sys\nfrom bridge.dashboard.scopes import find_scope\nimport bridge.dashboard.feed\n"
        "find_scope('restart')\n"
        "heavy = {'torch', 'analytics', 'sim_adapters', 'MDAnalysis', 'starlette', 'scipy'}\n"
        "sys.exit(len(heavy & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=100, check=False).returncode == 0
