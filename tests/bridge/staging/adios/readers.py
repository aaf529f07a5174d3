"""Readers that know nothing of us: ``python readers.py KIND NAME [WAIT]`` prints JSON lines.

``adios`` is the plain ADIOS2 API, ``openpmd`` is openPMD-api. Each line is one step.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def read_adios(name: str, wait: float) -> None:
    import numpy as np

    # The package imports torch where that is installed, which takes seconds.
    sys.modules["torch"] = None  # type: ignore[assignment]
    from adios2 import bindings as b

    adios = b.ADIOS()
    io = adios.DeclareIO("reader")
    io.SetEngine("BP5" if name.endswith(".bp") else "SST")
    io.SetParameters({"OpenTimeoutSecs": "30"})
    engine = io.Open(name, b.Mode.Read)
    say({"opened": name})
    while engine.BeginStep(b.StepMode.Read, 30.0) == b.StepStatus.OK:
        found: dict[str, Any] = {}
        for variable, facts in io.AvailableVariables().items():
            kinds = {"float": "f4", "double": "f8", "int64_t": "i8", "int32_t": "i4"}
            if facts["Type"] not in kinds:
                continue
            shape = [int(n) for n in facts["Shape"].split(",") if n.strip()]
            out = np.zeros(shape or 1, kinds[facts["Type"]])
            engine.Get(io.InquireVariable(variable), out, b.Mode.Sync)
            found[variable] = out.tolist() if shape else out[0].item()
        engine.EndStep()
        say(found)
        time.sleep(wait)
    engine.Close()


def read_openpmd(name: str, wait: float) -> None:
    import openpmd_api as pm

    series = pm.Series(name if name.endswith(".bp") else name + ".sst", pm.Access.read_linear)
    say({"opened": name})
    for iteration in series.read_iterations():
        found: dict[str, Any] = {
            "iteration": iteration.iteration_index,
            "seconds": iteration.time * iteration.time_unit_SI,
        }
        chunks = {}
        for kind, particles in iteration.particles.items():
            for record_name, record in particles.items():
                if record_name == "positionOffset":
                    continue
                for component_name, part in record.items():
                    key = f"{kind}/{record_name}/{component_name}"
                    chunks[key] = (part.load_chunk(), part.unit_SI, record.unit_dimension)
        iteration.close()
        for key, (values, unit, dimension) in chunks.items():
            found[key] = {"values": values.tolist(), "unit": unit, "dimension": list(dimension)}
        say(found)
        time.sleep(wait)
    series.close()


if __name__ == "__main__":
    kind, name = sys.argv[1:3]
    wait = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    {"adios": read_adios, "openpmd": read_openpmd}[kind](name, wait)
