"""What is true for all tests: runs start no dashboard unless a test is about one."""

from __future__ import annotations

import os

os.environ.setdefault("HEADRACE_DASHBOARD", "off")
