"""``python -m bridge.cli`` is the command ``headrace``."""

import sys

from bridge.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
