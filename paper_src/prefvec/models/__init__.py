"""Models: registry, fetch, materialise, load, prompt format, architecture."""

from prefvec.models.load import LoadedModel, load_model
from prefvec.models.registry import ModelSpec, resolve

__all__ = ["LoadedModel", "ModelSpec", "load_model", "resolve"]
