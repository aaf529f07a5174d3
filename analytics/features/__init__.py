"""Features of single frames: angles, distances, contacts, superposition, size."""

from analytics.features.contacts import ContactMap
from analytics.features.density import DensityMap, count_positions
from analytics.features.dihedrals import (
    Backbone,
    Dihedrals,
    backbone,
    dihedral_angles,
    dihedral_sincos,
)
from analytics.features.distances import Distances, all_pairs, pair_distances
from analytics.features.gyration import RadiusOfGyration, radius_of_gyration
from analytics.features.minimum_image import minimum_image, reduce_box
from analytics.features.rdf import RadialDistribution
from analytics.features.superposition import RMSD, Superpose, Superposition, rmsd, superposition

__all__ = [
    "RMSD",
    "Backbone",
    "ContactMap",
    "DensityMap",
    "Dihedrals",
    "Distances",
    "RadialDistribution",
    "RadiusOfGyration",
    "Superpose",
    "Superposition",
    "all_pairs",
    "backbone",
    "count_positions",
    "dihedral_angles",
    "dihedral_sincos",
    "minimum_image",
    "pair_distances",
    "radius_of_gyration",
    "reduce_box",
    "rmsd",
    "superposition",
]
