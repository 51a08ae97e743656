"""The transfer experiment: every method's direction, at the same layer and the same lengths."""

from prefvec.transfer.methods import (
    CONTROLS,
    DIRECT,
    LEARNED,
    UNSCALED,
    Maps,
    both_ways,
    controls_of,
    direct_methods,
    fit_maps,
    learned_methods,
    reference_directions,
    strongest_wrong,
)
from prefvec.transfer.sites import choose_site, validate
from prefvec.transfer.sweep import (
    INSTRUCTION,
    NOTHING,
    ORACLE,
    RANDOM,
    UNSTEERED,
    Site,
    evaluate,
    sweep,
)

__all__ = [
    "CONTROLS", "DIRECT", "INSTRUCTION", "LEARNED", "NOTHING", "ORACLE", "RANDOM", "UNSCALED", "UNSTEERED", "Maps", "Site", "both_ways",
    "choose_site", "controls_of", "direct_methods", "evaluate", "fit_maps", "learned_methods", "reference_directions", "strongest_wrong",
    "sweep", "validate",
]  # fmt: skip
