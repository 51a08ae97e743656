"""The transfer experiment: every method's direction, at the same layer and the same lengths."""

from prefvec.transfer.methods import (
    DIRECT,
    LEARNED,
    UNSCALED,
    Maps,
    direct_methods,
    fit_maps,
    learned_methods,
    reference_directions,
)
from prefvec.transfer.sites import choose_site, validate
from prefvec.transfer.sweep import INSTRUCTION, ORACLE, UNSTEERED, Site, evaluate, sweep

__all__ = [
    "DIRECT", "INSTRUCTION", "LEARNED", "ORACLE", "UNSCALED", "UNSTEERED", "Maps", "Site", "choose_site", "direct_methods",
    "evaluate", "fit_maps", "learned_methods", "reference_directions", "sweep", "validate",
]  # fmt: skip
