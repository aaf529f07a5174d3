"""The units that operators say their columns have."""

from __future__ import annotations

import pytest

from analytics.features import RMSD, DensityMap, Dihedrals, Distances, RadiusOfGyration, Superpose
from analytics.reduction import OnlinePCA, OnlineTICA
from analytics.statistics import Moments
from analytics.windows import Window
from bridge.pipeline import Operator

NM = {"positions": "nm", "energy": "kJ/mol"}
REFERENCE = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("operator", "units"),
    [
        (Dihedrals(atoms=[[0, 1, 2, 3]]), {"dihedrals": "rad"}),
        (Dihedrals(atoms=[[0, 1, 2, 3]], encoding="sincos"), {}),
        (Distances(pairs=[[0, 1]]), {"distances": "nm"}),
        (RadiusOfGyration(), {"radius_of_gyration": "nm"}),
        (RMSD(reference=REFERENCE), {"rmsd": "nm"}),
        (Superpose(reference=REFERENCE), {"superposed": "nm"}),
        (DensityMap(bins=4), {}),
        (DensityMap(bins=4, quantity="density"), {"density": "nm⁻³"}),
        (OnlinePCA(input="positions"), {"pca": "nm"}),
        (OnlinePCA(input=["positions", "energy"]), {"pca": ""}),
        (OnlineTICA(input="positions", lag=1), {}),
        (Window(size=1.0, input="energy", reductions=["mean", "var"]),
         {"mean_energy": "kJ/mol", "var_energy": "(kJ/mol)²"}),
    ],
)  # fmt: skip
def test_columns_have_the_unit_of_what_they_are_made_of(
    operator: Operator, units: dict[str, str]
) -> None:
    assert operator.column_units(NM) == units


def test_moments_have_the_unit_of_their_column() -> None:
    found = Moments(input="energy").column_units(NM)
    assert found["moments_mean"] == found["moments_std"] == "kJ/mol"


def test_without_units_there_are_none() -> None:
    assert not any(Distances(pairs=[[0, 1]]).column_units({}).values())
