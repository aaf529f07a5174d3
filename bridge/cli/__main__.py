"""The command ``headrace``, which is ``python -m bridge.cli``, too."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; whoever interrupts it while it is loaded gets a sentence, too."""
    try:
        # Here, and not above: it takes a moment.
        from bridge.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        print("headrace: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
