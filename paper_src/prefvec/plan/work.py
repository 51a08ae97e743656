"""What each stage of a profile computes, counted by the code that asks for it.

A `Study` over outlines (sizes and tokenizers, no weights) gives the prompts, layers and splits of the
real run. What two stages both need has the same key, and whoever comes first computes it.
"""

from prefvec.paths import slug
from prefvec.plan.asked_work import asked_stages
from prefvec.plan.counting import Stage
from prefvec.plan.diagnostic_work import diagnostic_stages
from prefvec.plan.extended import extension_stage
from prefvec.plan.model_work import model_stages
from prefvec.plan.pair_work import pair_stages
from prefvec.plan.shapes import OutlinePool
from prefvec.profile import Profile
from prefvec.study import Study


def stages(profile: Profile, pool: OutlinePool, pdf: bool = True) -> list[Stage]:
    """Every job of a profile in an order in which they can run: the Snakefile's graph. Counted once a
    pool and profile."""
    key = profile.model_dump_json()
    if key not in pool.counted:
        pool.counted[key] = _counted(profile, pool)
    end = [Stage("pdf", "", "", (), (), ("paper",))] if pdf else []
    return [*pool.counted[key], *end]


def _counted(profile: Profile, pool: OutlinePool) -> list[Stage]:
    sources = {source for source, _ in profile.pairs}
    found = [Stage("model", slug(name), "", (name,), (), ()) for name in profile.models]
    fetched = {name: stage.id for name, stage in zip(profile.models, found, strict=True)}
    found.append(
        Stage("architectures", "", "00", tuple(profile.models), (), tuple(fetched.values()))
    )
    for trait in profile.traits:
        for name in profile.models:
            chosen = profile.settings_for(name, name, trait)
            if name not in sources:  # a layer given by number is a source's
                chosen = chosen.model_copy(update={"intervention_layer": -1})
            found += model_stages(Study(chosen, pool), fetched[name])
        for source, target in profile.pairs:
            study = Study(profile.settings_for(source, target, trait), pool)
            cell = pair_stages(study, (fetched[source], fetched[target]))
            found += cell
            if trait in profile.diagnostics.traits:
                found += diagnostic_stages(study, profile.diagnostics, cell[-1])
            found += asked_stages(study, profile, cell[-1])
    for pair in profile.pairs:
        found.append(extension_stage(profile, pair, pool, tuple(fetched[name] for name in pair)))
    notebooks = tuple(stage.id for stage in found if stage.notebook)
    found.append(Stage("paper", "", "09", (), (), notebooks))
    return found
