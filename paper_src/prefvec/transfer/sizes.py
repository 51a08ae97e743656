"""How much alignment data does the map need? The ridge map on nested subsets of the alignment rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from prefvec.adapters import Ridge
from prefvec.stats import mean_ci, transfer_efficiency
from prefvec.steering import Steer
from prefvec.study import Study
from prefvec.transfer.extensions import effects_by, fitted_ridge, steered_answers
from prefvec.transfer.methods import cosine, reference_directions, with_length
from prefvec.transfer.spill import score_as
from prefvec.transfer.sweep import ORACLE, UNSTEERED, Site

SUBSETS = 3  # random subsets of a size; of all rows there is one
FOLDS = 5


class Subset(NamedTuple):
    """Rows of an alignment, the first of a random order (`seed`)."""

    seed: int
    rows: np.ndarray


def nested_order(styles: Sequence[str], seed: int) -> np.ndarray:
    """A random order of rows whose every beginning has as many styles as it can hold, each as often as
    any other or once more: one random row of each style in turn, styles in random order."""
    generator = np.random.default_rng([seed, len(styles)])
    styles = np.asarray(styles)
    names = generator.permutation(np.unique(styles))
    queues = [generator.permutation(np.flatnonzero(styles == name)) for name in names]
    rounds = max(map(len, queues))
    return np.array([queue[i] for i in range(rounds) for queue in queues if i < len(queue)])


def subsets(styles: Sequence[str], sizes: Sequence[int], count: int = SUBSETS) -> list[Subset]:
    """`count` random subsets of every size; those of one seed are nested. A size of all rows or more
    stands for all rows, of which there is one."""
    out = []
    total = len(styles)
    for size in dict.fromkeys(min(size, total) for size in sizes):
        for seed in range(1 if size == total else count):
            out.append(Subset(seed, nested_order(styles, seed)[:size]))
    return out


def held_out_cosine(
    x: np.ndarray, y: np.ndarray, styles: Sequence[str], rows: np.ndarray, penalty: float
) -> float:
    """Mean cosine between the mapped and the target's own direction of styles that the fit has not seen.

    The directions (style mean minus the mean of the other styles' rows) come from all rows `[n, d]`, so
    that every size is held against the same ones; the fit sees `rows` without the held-out styles.
    """
    styles = np.asarray(styles)
    cosines = []
    for train, test in GroupKFold(FOLDS).split(x, groups=styles):
        seen = np.intersect1d(rows, train)
        ridge = Ridge(penalty).fit(x[seen], y[seen])
        centre_x, centre_y = x[train].mean(axis=0), y[train].mean(axis=0)
        for name in np.unique(styles[test]):
            own = styles == name
            mapped = ridge.map(x[own].mean(axis=0) - centre_x)
            cosines.append(cosine(mapped, y[own].mean(axis=0) - centre_y))
    return float(np.mean(cosines))


def larger_study(study: Study, size_questions: int) -> Study:
    """The study with more alignment questions (0: its own), sharing models and store."""
    count = size_questions or study.settings.n_alignment
    settings = study.settings.model_copy(update={"n_alignment": count})
    return Study(settings, study.pool, study.store)


def size_curve(
    study: Study, site: Site, sizes: Sequence[int], n: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Fit the ridge map on subsets of the alignment rows and steer the first n evaluation questions.

    λ is chosen by held-out styles for each subset; the site is 04's. Nothing is chosen by the answers.
    Returns one row a subset, one row a size (`curve_summary`), and the answers with scores.
    """
    alignment = study.alignment
    x, y = alignment.source[site.layer_source], alignment.target[site.layer_target]
    references = reference_directions(study, site.layer_target)
    vector = study.vector(study.source).at(site.layer_source)
    directions, rows = dict(references), []
    for subset in subsets(alignment.styles, sizes):
        ridge = fitted_ridge(study, alignment, site, subset.rows)
        mapped = ridge.map(vector)
        name = f"size_{len(subset.rows)}.{subset.seed}"
        directions[name] = with_length(mapped, np.linalg.norm(references[ORACLE]))
        rows.append(
            {
                "method": name, "size": len(subset.rows), "seed": subset.seed,
                "styles": len({alignment.styles[i] for i in subset.rows}),
                "penalty": ridge.penalty,
                "concept_cosine": held_out_cosine(
                    x, y, alignment.styles, subset.rows, ridge.penalty
                ),
                "cosine_to_own": cosine(mapped, references[ORACLE]),
            }
        )  # fmt: skip
    conditions = {UNSTEERED: ()} | {
        name: (Steer(np.float32(v), site.layer_target, study.trait.sign * site.dose),)
        for name, v in directions.items()
    }
    answers = steered_answers(study, conditions, study.splits["evaluation"][:n])
    answers["score"] = score_as(study, answers, study.settings.max_new_tokens)
    effects = {m: e[0] for m, e in effects_by(answers, study.trait.sign).items()}
    frame = pd.DataFrame(rows)
    noise = np.stack([effects[m] for m in references if m != ORACLE])
    own, seed = effects[ORACLE], study.settings.seed
    frame["effect"] = [mean_ci(effects[m], seed) for m in frame.method]
    frame["te"] = [transfer_efficiency(effects[m], noise, own, seed) for m in frame.method]
    return frame, curve_summary(frame, effects, noise, own, seed), answers


def curve_summary(
    frame: pd.DataFrame,
    effects: dict[str, np.ndarray],
    noise: np.ndarray,
    own: np.ndarray,
    seed: int,
) -> pd.DataFrame:
    """One row a size: means over its subsets, with intervals over prompts for effect and efficiency
    (each prompt's mean over the subsets) and the range over subsets for the cosines.

    frame: method, size, concept_cosine, cosine_to_own; effects `[n]` by method; noise `[k, n]`: those of
    random directions; own `[n]`: those of the target's own vector.
    """  # fmt: skip
    rows = []
    for size, group in frame.groupby("size"):
        effect = np.mean([effects[m] for m in group.method], axis=0)
        row = {"size": size, "subsets": len(group), "n": len(effect)}
        for name in ("concept_cosine", "cosine_to_own"):
            row |= {name: group[name].mean()}
            row |= {f"{name}_least": group[name].min(), f"{name}_most": group[name].max()}
        row["effect"] = mean_ci(effect, seed)
        row["te"] = transfer_efficiency(effect, noise, own, seed)
        rows.append(row)
    return pd.DataFrame(rows)
