"""The process that a `bridge.staging.adios.child.Child` starts."""

from __future__ import annotations

import sys

from bridge.staging.adios.child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
