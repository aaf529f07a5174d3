"""An icosahedron of 13 copper atoms with EMT forces at 900 K."""

import numpy as np
from ase import units
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from ase.md.langevin import Langevin


def make(seed: int) -> Langevin:
    noise = np.random.default_rng(seed)
    atoms = Icosahedron("Cu", 2)
    atoms.calc = EMT()
    width = np.sqrt(units.kB * 900.0 / atoms.get_masses()[:, None])
    atoms.set_velocities(noise.standard_normal((len(atoms), 3)) * width)
    return Langevin(
        atoms,
        5.0 * units.fs,
        temperature_K=900.0,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=noise,
    )
