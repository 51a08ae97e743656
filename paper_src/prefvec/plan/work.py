"""What each stage of a profile computes, counted by the code that asks for it.

A `Study` over outlines (sizes and tokenizers, no weights) gives the prompts, layers and splits of the
real run. What two stages both need has the same key, and whoever comes first computes it.
"""

from collections.abc import Sequence

from prefvec.paths import pair_name, slug
from prefvec.plan.counting import (
    Stage,
    Work,
    alignment_prompts,
    captured,
    computed_tokens,
    contrast_ids,
    judged,
    plain_prompts,
)
from prefvec.plan.extended import extension_stage
from prefvec.plan.rates import PATH_FITS
from prefvec.plan.shapes import Outline, OutlinePool
from prefvec.profile import Profile
from prefvec.study import CLASSIFIER_PAIRS, CLASSIFIER_TOKENS, JUDGES, Study
from prefvec.transfer import DIRECT
from prefvec.transfer.methods import LEARNED as FITTED
from prefvec.transfer.sites import SITE_RANDOM

LEARNED = (*FITTED, "shuffled_pairing", "wrong_trait")
SITE_METHODS = ("ridge_concept", "shuffled_pairing", *(f"random_{i}" for i in range(SITE_RANDOM)))
CURVES = {"direct_transfer": ("oracle", "random_0"), "adapters": ("oracle", "ridge_concept", "random_0")}  # fmt: skip
PERPLEXITY_TOKENS = 24
PERPLEXITY_METHODS = 4  # methods whose content and coherence 04 reports
EXTRA_FITS = len(FITTED)  # decompositions of 04's maps


def stages(profile: Profile, pool: OutlinePool, pdf: bool = True) -> list[Stage]:
    """Every job of a profile in an order in which they can run: the Snakefile's graph."""
    settings = {
        name: profile.settings_for(name, name, profile.traits[0]) for name in profile.models
    }
    sources = {source for source, _ in profile.pairs}
    found = [Stage("model", slug(name), "", (name,), (), ()) for name in profile.models]
    fetched = {name: stage.id for name, stage in zip(profile.models, found, strict=True)}
    found.append(
        Stage("architectures", "", "00", tuple(profile.models), (), tuple(fetched.values()))
    )
    for trait in profile.traits:
        for name in profile.models:
            chosen = settings[name].model_copy(update={"trait": trait})
            if name not in sources:  # a layer given by number is a source's
                chosen = chosen.model_copy(update={"intervention_layer": -1})
            found += _model_stages(Study(chosen, pool), fetched[name])
        for source, target in profile.pairs:
            study = Study(profile.settings_for(source, target, trait), pool)
            found += _pair_stages(study, (fetched[source], fetched[target]))
    for pair in profile.pairs:
        found.append(extension_stage(profile, pair, pool, tuple(fetched[name] for name in pair)))
    notebooks = tuple(stage.id for stage in found if stage.notebook)
    found.append(Stage("paper", "", "09", (), (), notebooks))
    if pdf:
        found.append(Stage("pdf", "", "", (), (), ("paper",)))
    return found


def _model_stages(study: Study, fetched: str) -> list[Stage]:
    model, name = study.source, f"{slug(study.settings.source)}/{study.trait.name}"
    plain = captured(
        study, model, "plain extraction", plain_prompts(study, model, "extraction"), None
    )
    extracted = Stage(
        "extract", name, "01", (model.id,), (_vector(study, model), plain), (fetched,)
    )
    layers, doses = study.candidate_layers(model), study.settings.doses
    steered = [(("own", layer, dose), layer) for layer in layers for dose in doses]
    conditions = [(("unsteered",), None), *steered]
    answers = _sweep(study, model, conditions, "selection")
    models = tuple(dict.fromkeys(w.model for w in answers)) if answers else (model.id,)
    validated = Stage(
        "validate", name, "02", models, (_vector(study, model), *answers), (extracted.id,),
        answers=len(conditions) * len(study.splits["selection"]),
    )  # fmt: skip
    return [extracted, validated]


def _pair_stages(study: Study, fetched: tuple[str, ...]) -> list[Stage]:
    name = f"{pair_name(study.settings.source, study.settings.target)}/{study.trait.name}"
    models = (study.settings.source, study.settings.target)
    site = _site(study)
    out = []
    for rule, notebook, methods in (
        ("direct_transfer", "03", DIRECT),
        ("adapters", "04", LEARNED),
    ):
        answers, rows = _evaluation(study, methods, CURVES[rule])
        work = [*site, *answers]
        if rule == "adapters":
            wrong = study.layers_of(study.source)
            trait = study.control_trait
            prompts = contrast_ids(study, study.source, trait)
            work.append(captured(study, study.source, f"extract {trait.name}", prompts, wrong))
            n = len(study.styles) * len(study.splits["alignment"])
            work.append(Work("ridge", ("maps", name), study.source.id, EXTRA_FITS, n, target_width=study.target.width))  # fmt: skip
            work.append(_perplexity(study))
        out.append(Stage(rule, name, notebook, models, tuple(work), fetched, True, rows))
    return out


def _site(study: Study) -> list[Work]:
    """What choosing layer and dose takes: vectors, alignment, λ paths, answers on the selection."""
    work = [_vector(study, study.source), _vector(study, study.target)]
    n = len(study.styles) * len(study.splits["alignment"])
    kinds = sorted((study.source.prompt.kind, study.target.prompt.kind))
    for model in (study.source, study.target):
        label = f"alignment {kinds} without {study.trait.name}"
        work.append(
            captured(study, model, label, alignment_prompts(study, model), study.layers_of(model))
        )
    conditions = [(("unsteered",), None)]
    for source, target in study.layer_pairs():
        key = ("path", study.source.id, study.target.id, source, target, study.trait.name)
        work.append(
            Work("ridge", key, study.source.id, PATH_FITS, n, target_width=study.target.width)
        )
        conditions += [
            ((method, "site", study.source.id, target, dose), target)
            for method in SITE_METHODS
            for dose in study.settings.doses
        ]
    return work + _sweep(study, study.target, conditions, "selection")


def _evaluation(
    study: Study, methods: Sequence[str], curve: Sequence[str]
) -> tuple[list[Work], int]:
    """Answers on the evaluation split, and how many rows their file has. Which layer is chosen is
    not known before the run: the deepest candidate stands for it in the costs."""
    layer = study.layers_of(study.target)[-1]
    references = ["oracle", *(f"random_{i}" for i in range(study.settings.n_random))]
    conditions = [(("unsteered",), None)]
    for method in [*references, *methods]:
        shared = () if method in references else (study.source.id,)
        doses = study.settings.doses if method in curve else [study.settings.doses[-1]]
        conditions += [((method, *shared, dose), layer) for dose in doses]
    asked = bool(study.trait.instructions or study.trait.examples)
    rows = (len(conditions) + asked) * len(study.splits["evaluation"])
    return _sweep(study, study.target, conditions, "evaluation", asked), rows


def _sweep(study: Study, model: Outline, conditions, split: str, instruction=False) -> list[Work]:
    """Answers by condition, and their scores where another model gives them."""
    questions, limit = study.splits[split], study.settings.max_new_tokens
    plain = plain_prompts(study, model, split)
    asked = [(condition, layer, plain) for condition, layer in conditions]
    if instruction:
        asked.append(
            (("instruction",), None, [study.instructed_prompt(model, q) for q in questions])
        )
    work = []
    for condition, layer, prompts in asked:
        # Blocks up to the first steered one see a prompt once, whatever the conditions.
        shared = 0.0 if layer is None else layer / model.n_layers
        trait = () if condition == ("unsteered",) else (study.trait.name,)
        key = ("generate", model.id, split, limit, *trait, *condition)
        work.append(
            Work(
                "generate",
                key,
                model.id,
                len(questions),
                computed_tokens(prompts),
                limit,
                1 - shared,
            )
        )
    if study.trait.measure == "classifier":
        work += [_classifier_texts(study, name) for name in JUDGES]
    if study.trait.measure == "likelihood":
        work.append(judged(study, model, split, [condition for condition, *_ in asked]))
    return work


def _classifier_texts(study: Study, name: str) -> Work:
    """What a chat model writes under opposite instructions, to train the trait's classifier."""
    model = study.pool.get(name)
    prompts = [
        tuple(model.prompt.encode(model.prompt.render(q, system=told)))
        for pair in study.trait.instructions[:CLASSIFIER_PAIRS]
        for told in (pair.positive, pair.negative)
        for q in study.splits["extraction"]
    ]
    key = ("classifier", study.trait.name, name)
    return Work("generate", key, name, len(prompts), computed_tokens(prompts), CLASSIFIER_TOKENS)


def _perplexity(study: Study) -> Work:
    """The reported methods' answers, read by the source model as plain text."""
    questions = study.splits["evaluation"]
    rows = PERPLEXITY_METHODS * len(questions)
    prompts = sum(len(study.source.prompt.encode(f"{q}\n")) for q in questions)
    tokens = PERPLEXITY_METHODS * prompts + rows * PERPLEXITY_TOKENS
    key = ("perplexity", study.trait.name, study.source.id, study.target.id)
    logits = rows * PERPLEXITY_TOKENS
    return Work("score", key, study.source.id, rows, tokens, logits=logits)


def _vector(study: Study, model: Outline) -> Work:
    label = f"extract {study.trait.name}"
    return captured(study, model, label, contrast_ids(study, model, study.trait), None)
