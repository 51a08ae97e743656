"""What notebook 08 computes for a pair, beside what 04 has left."""

from collections.abc import Sequence
from functools import partial

from prefvec.paths import pair_name
from prefvec.plan.counting import (
    Stage,
    Work,
    captured,
    computed_tokens,
    scored,
    task_key,
    vector,
)
from prefvec.plan.rates import PATH_FITS
from prefvec.plan.shapes import OutlinePool
from prefvec.profile import Profile
from prefvec.study import Study
from prefvec.transfer.extensions import SAMPLED
from prefvec.transfer.sizes import FOLDS, larger_study, subsets
from prefvec.transfer.spill import SPILL_METHODS

COMPOSED = ("native.b", "native.a+b", "mapped.a", "mapped.b", "mapped.a+b")  # what 04 has not got


def extension_stage(
    profile: Profile, pair: tuple[str, str], pool: OutlinePool, fetched: tuple[str, ...]
) -> Stage:
    """Notebook 08 of a pair: what it computes beside what 04 has left."""
    studies = [Study(profile.settings_for(*pair, trait), pool) for trait in profile.traits]
    study, chosen, name = studies[0], profile.extensions_of(*pair), pair_name(*pair)
    ways = [way for way in (tuple(pair), tuple(pair)[::-1]) if way in profile.pairs]
    needs = [f"adapters {pair_name(*way)}/{other.trait.name}" for way in ways for other in studies]
    questions = study.splits["evaluation"]
    work, answers = [], 0

    def fit(part: str, rows: int, fits: int = PATH_FITS + 1) -> Work:
        return Work("ridge", (part, name, rows), study.source.id, fits, rows, target_width=study.target.width)  # fmt: skip

    def steered(part: str, conditions: Sequence[str], n: int) -> list[Work]:
        kept = [study.plain_prompt(study.target, q) for q in questions[:n]]
        limit, model = study.settings.max_new_tokens, study.target
        depth = 1 - study.layers_of(model)[-1] / model.n_layers
        tokens = computed_tokens(kept)
        keys = [("generate", model.id, part, name, c, *task_key(study)) for c in conditions]
        return [Work("generate", key, model.id, len(kept), tokens, limit, depth) for key in keys]

    for other in studies:  # 04's answers under the other traits' vectors
        for cell in studies:
            if cell is not other:
                asked = [(cell.trait.name, m) for m in ("unsteered", *SPILL_METHODS)]
                key = ("evaluation", *asked)
                work += scored(other, study.target, cell.splits["evaluation"], key, len(asked))
    n_rows = len(study.styles) * len(study.splits["alignment"])
    if len(studies) > 1:
        for model in (study.source, study.target):
            work.append(vector(study, model, studies[1].trait))
        work.append(fit("composition", n_rows))
        new = steered("composition", COMPOSED, chosen.n_composed)
        work += new
        answers += (len(new) + 2) * new[0].rows  # the unsteered ones and one vector are 04's
    if chosen.sizes:
        larger = larger_study(study, chosen.size_questions)
        for model in (larger.source, larger.target):
            prompts = larger.alignment_prompts(model)
            label = f"alignment of {len(prompts)} without {study.trait.name}"
            work.append(
                captured(larger, model, label, partial(tuple, prompts), larger.layers_of(model))
            )
        styles = [style.id for style in larger.styles for _ in larger.splits["alignment"]]
        found = subsets(styles, chosen.sizes)
        names = [f"{len(subset.rows)}.{subset.seed}" for subset in found]
        work += [
            fit(f"size {text}", len(subset.rows), PATH_FITS + 1 + FOLDS)
            for text, subset in zip(names, found, strict=True)
        ]
        new = steered("size", names, chosen.n_curve)
        work += new
        answers += (len(new) + 2 + study.settings.n_random) * new[0].rows
    drawn = [f"{m} {seed}" for m in ("unsteered", *SAMPLED) for seed in range(chosen.n_seeds)]
    work += steered("sampling", drawn, len(questions))
    answers += len(drawn) * len(questions)
    return Stage("extensions", name, "08", pair, tuple(work), (*fetched, *needs), True, answers)
