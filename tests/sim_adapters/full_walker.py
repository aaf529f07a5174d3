"""A simulation whose stream is full, as nobody reads: ``python full_walker.py ADDRESS SHAPE``.

It prints one JSON line of where it ended.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from bridge import Capability
from sim_adapters.link import link

CAPABILITIES = [Capability(kind) for kind in ("pause", "resume", "stop")]


def main(address: str, shape: str) -> None:
    """Put frames until a stop was applied."""
    x = np.zeros((1000, 3))
    step = 0
    more = {"capabilities": CAPABILITIES, "capacity": 2 << 20}
    with link("w", stager=address, example={"x": x}, **more) as stream:  # type: ignore[arg-type]
        while not stream.stopped:
            step += 1
            if shape == "many":
                steps = np.arange(4 * step, 4 * step + 4)
                stream.put_many(steps, steps * 0.5, x=np.broadcast_to(x, (4, *x.shape)))
                stream.service()
            elif stream.put(step, step * 0.5, x=x):
                stream.service(step, step * 0.5)
        stream.close()
        figures = stream.producer.statistics()
        told = {"step": stream.step, "frames": figures.frames, "dropped": figures.dropped}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
