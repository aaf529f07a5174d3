"""Follow the results of a run while it goes on: python follow.py RUN_DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

from bridge.codec import decode_batch
from bridge.errors import TransportError
from bridge.frames import FrameBatch
from bridge.staging import StagerClient, resolve

TOPIC = "results/opening/adk"


def main() -> None:
    run = Path(sys.argv[1])
    position = shown = 0
    with StagerClient(resolve(run_directory=run, timeout=60.0)) as client:
        while True:
            with client.fetch({TOPIC: position}, wait=1.0) as fetched:
                for record in fetched.records:
                    shown = show(decode_batch(record.data)[0])
                position = fetched.positions.get(TOPIC, position)
            # The engine may be behind the stream: all is shown once its last frame was.
            if any(t.finished and shown >= t.end for t in client.topics("frames/adk")):
                return


def show(batch: FrameBatch) -> int:
    """Print the frames; return the number of the one that comes next."""
    for frame in batch:
        rmsd, size = frame["rmsd"].item(), frame["radius_of_gyration"].item()
        print(f"frame {frame.offset:3d}  RMSD {rmsd:.3f} nm  radius of gyration {size:.3f} nm")
    return batch.stop


if __name__ == "__main__":
    try:
        main()
    except TransportError as error:
        print(f"The run has ended, or has not begun: {error}")
