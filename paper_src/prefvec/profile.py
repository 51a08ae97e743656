"""Typed configuration: what a notebook takes as parameters, and the profiles that override it."""

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from prefvec.errors import ConfigError
from prefvec.paths import CONFIG, shadows

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"  # of a profile, and so of its folder of results
SOME_TRAITS = ("diagnostics", "judge", "black_box")  # parts of a profile with traits of their own


class _Parameters(BaseModel):
    """Values that notebooks declare under the same names in their parameters cell."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def from_namespace(cls, namespace: dict) -> Self:
        """From a notebook's variables: `Settings.from_namespace(globals())`."""
        return cls.checked({k: v for k, v in namespace.items() if k in cls.model_fields})

    @classmethod
    def checked(cls, values: dict) -> Self:
        """From a mapping. Raises ConfigError naming the parameter at fault."""
        unknown = set(values) - set(cls.model_fields)
        if unknown:
            name = sorted(unknown)[0]
            raise ConfigError(f"unknown parameter '{name}'{suggest(name, cls.model_fields)}")
        try:
            return cls(**values)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ConfigError(
                f"parameter '{where}': {problem['msg']} (got {problem['input']!r})"
            ) from error


def computed_dtype(manifest: dict) -> str:
    """The number format of a stage: that of its models, or as it was asked for if they tell none."""
    found = {model["dtype"] for model in manifest.get("models", {}).values()}
    return found.pop() if len(found) == 1 else manifest["settings"].get("dtype", "auto")


class Settings(_Parameters):
    """Everything a run depends on. Notebooks declare the same names in their parameters cell."""

    profile: str = Field("quick", pattern=NAME, description="name of the results folder")
    source: str = Field(description="model the vector is found in")
    target: str = Field(description="model it is carried to")
    trait: str = Field("verbosity", description="built-in trait or path of a trait file")
    task: str = Field("answer", description="answer, summarise, or path of a task file")
    control_trait: str = Field("formality", description="the wrong trait sent through the same map")
    device: str = Field("auto", description="auto, cpu, cuda, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="number format of the models; auto: the faster one on this device"
    )
    seed: int = Field(0, ge=0, description="seed of random controls, folds and bootstrap")
    n_instructions: int = Field(2, ge=1, le=5, description="instruction pairs used for extraction")
    n_extraction: int = Field(16, ge=2, description="questions of the extraction split")
    n_styles: int = Field(32, ge=5, description="styles of the alignment bank")
    n_alignment: int = Field(12, ge=2, description="questions of the alignment split")
    n_selection: int = Field(12, ge=4, description="questions of the selection split")
    n_choice: int = Field(8, ge=0, description="questions on which methods are compared")
    n_evaluation: int = Field(24, ge=4, description="questions of the evaluation split")
    n_statements: int = Field(24, ge=2, description="true/false statements, for the honesty trait")
    num_pairs: int = Field(0, ge=0, description="pairs of summaries that a model writes itself")
    n_random: int = Field(2, ge=1, description="norm-matched random directions")
    max_new_tokens: int = Field(48, ge=8, description="limit of an answer, in tokens")
    layer_fractions: list[float] = Field([0.4, 0.5, 0.6], min_length=1)
    intervention_layer: int = Field(-1, ge=-1, description="source layer; −1: by validation")
    doses: list[float] = Field([0.5, 1.0, 1.5], min_length=1, description="own-vector lengths")
    scales: list[float] = Field(
        [0.1, 0.22, 0.46, 1.0, 2.2, 4.6, 10.0],
        min_length=2,
        description="own-vector lengths that hypothesis A tries",
    )
    penalties: list[float] = Field([0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0], min_length=2)

    @classmethod
    def as_run(cls, manifest: dict) -> Self:
        """The settings of a stage's manifest, with the number format in which its models computed instead
        of `auto`: on another machine that could be another one. Raises ConfigError as `checked`."""
        return cls.checked(manifest["settings"] | {"dtype": computed_dtype(manifest)})

    @field_validator("layer_fractions")
    @classmethod
    def _fractions(cls, values: list[float]) -> list[float]:
        if any(not 0 <= v <= 1 for v in values):
            raise ValueError("every fraction must lie in [0, 1]")
        return values

    @field_validator("doses", "scales", "penalties")
    @classmethod
    def _positive(cls, values: list[float]) -> list[float]:
        if any(not v > 0 for v in values) or sorted(set(values)) != values:
            raise ValueError("values must be above 0 and in rising order")
        return values


class Extensions(_Parameters):
    """What notebook 08 takes beside the settings that 04 ran with."""

    sizes: list[int] = Field([], description="sizes of the alignment set that are compared")
    size_questions: int = Field(0, ge=0, description="alignment questions for that; 0: the study's")
    n_curve: int = Field(16, ge=4, description="first evaluation questions that each size steers")
    n_composed: int = Field(24, ge=4, description="first evaluation questions for two preferences")
    n_seeds: int = Field(3, ge=0, description="sampling seeds; 0: no sampling")
    temperature: float = Field(0.7, gt=0, description="of the sampled answers")

    @field_validator("sizes")
    @classmethod
    def _rising(cls, values: list[int]) -> list[int]:
        if any(v < 20 for v in values) or sorted(set(values)) != values:
            raise ValueError("sizes must be 20 or more and in rising order")
        return values


class Diagnostics(_Parameters):
    """For which traits, in every pair, notebooks 05a to 05c run, and what they take beside the settings."""

    traits: list[str] = Field([], description="traits of the profile; none: no diagnostics")
    depths: list[float] = Field([0.1, 0.3, 0.5, 0.7, 0.9], min_length=2)
    n_diagnosed: int = Field(24, ge=4, description="first evaluation questions, for 05a and 05c")
    n_components: int = Field(16, ge=4, description="first questions of a split, for components")

    @field_validator("depths")
    @classmethod
    def _rising(cls, values: list[float]) -> list[float]:
        if any(not 0 <= v <= 1 for v in values) or sorted(set(values)) != values:
            raise ValueError("depths must lie in [0, 1] and be in rising order")
        return values


class Judging(_Parameters):
    """For which traits of the first pair notebook 06 runs, and what it takes beside 04's settings."""

    traits: list[str] = Field([], description="traits of the profile; none: no judge")
    judge_model: str = Field("qwen2.5-coder-0.5b-instruct", description="who judges")
    n_gold: int = Field(8, ge=2, description="pairs of labelled texts of the trait")
    n_broken: int = Field(8, ge=2, description="texts that are also shown broken")
    n_judged: int = Field(6, ge=1, description="evaluation questions whose answers are judged")


class BlackBox(_Parameters):
    """For which traits of the first pair notebook 07 runs, and what it takes beside 04's settings. The
    model that is asked is the pair's target: a vector's logit bias is on tokens of its own model."""

    traits: list[str] = Field([], description="traits of the profile; none: no black box")
    n_asked: int = Field(5, ge=2, description="evaluation questions")
    n_draws: int = Field(1, ge=1, description="answers a question and condition")
    box_tokens: int = Field(96, ge=1, description="limit of an answer, in tokens")


class Profile(BaseModel):
    """A named set of pairs, traits and settings: `config/<name>.yaml`.

    `trait_settings` holds what differs for a trait, e.g. shorter answers where length is not measured;
    `extensions` what notebook 08 takes beside them, `diagnostics` what notebooks 05a to 05c do, `judge` and
    `black_box` what 06 and 07 do, `screen` which decoder families notebook 00 tries; `claims`: a
    sentence of the paper that the results do not bear out stops the build (elsewhere it is left out).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    description: str
    pairs: tuple[tuple[str, str], ...] = Field(min_length=1)
    traits: tuple[str, ...] = Field(min_length=1)
    settings: dict = {}
    trait_settings: dict[str, dict] = {}
    extensions: Extensions = Extensions()
    diagnostics: Diagnostics = Diagnostics()
    judge: Judging = Judging()
    black_box: BlackBox = BlackBox()
    screen: Literal["few", "all"] = "few"
    claims: bool = False

    def settings_of(self, trait: str) -> dict:
        """The profile's settings with those of one trait over them."""
        return {**self.settings, **self.trait_settings.get(trait, {})}

    def settings_for(self, source: str, target: str, trait: str) -> Settings:
        """The full settings of one cell of the study."""
        given = {**self.settings_of(trait), "profile": self.name}
        return Settings.checked({**given, "source": source, "target": target, "trait": trait})

    def extensions_of(self, source: str, target: str) -> Extensions:
        """What notebook 08 takes for a pair: size curve and sampling are the first pair's alone."""
        main = (source, target) == self.pairs[0]
        rest = {"sizes": [], "n_seeds": 0}
        return self.extensions if main else self.extensions.model_copy(update=rest)

    @property
    def models(self) -> list[str]:
        """Every model of the profile, in order of appearance."""
        return list(dict.fromkeys(model for pair in self.pairs for model in pair))


@lru_cache
def load_profile(name: str) -> Profile:
    """A profile by name or path. Raises ConfigError naming the file and field; a file may not have the
    name of a profile in `config/`, as both would write into one folder."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIG / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in CONFIG.glob("*.yaml"))
        raise ConfigError(
            f"unknown profile '{name}'{suggest(name, known)}, or the path of a .yaml file"
        )
    try:
        profile = Profile(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"profile {path} can't be read: {error}") from error
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        detail = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" if detail else str(error)
        raise ConfigError(f"profile {path}: {reason}") from error
    unused = sorted(set(profile.trait_settings) - set(profile.traits))
    if unused:
        raise ConfigError(
            f"profile {path}: trait_settings of '{unused[0]}', which is not in traits"
        )
    for part in SOME_TRAITS:
        unused = [t for t in getattr(profile, part).traits if t not in profile.traits]
        if unused:
            raise ConfigError(
                f"profile {path}: {part}.traits has '{unused[0]}', which is not in traits"
            )
    for trait in profile.traits:  # every value checked once, early
        try:
            profile.settings_for(*profile.pairs[0], trait)
        except ConfigError as error:
            raise ConfigError(f"profile {path}: {error}") from error
    built_in = CONFIG / f"{profile.name}.yaml"
    if shadows(path, built_in):
        raise ConfigError(
            f"profile {path}: name: '{profile.name}' is taken by {built_in.name} of config/, whose results "
            "it would replace: choose another"
        )
    return profile


def suggest(name: str, known) -> str:
    """`: did you mean 'x'? known: …` for an error message."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f": did you mean '{close[0]}'?" if close else ":"
    return f"{hint} known: {', '.join(sorted(known))}"
