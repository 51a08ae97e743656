"""What the stages of a pair compute: notebooks 03 and 04."""

from collections.abc import Sequence
from functools import partial

from prefvec.effects import READ
from prefvec.metrics.coherence import PERPLEXITY_TOKENS
from prefvec.paths import pair_name
from prefvec.plan.counting import DISTINCT, Stage, Work, captured, swept, vector
from prefvec.plan.model_work import own_effect
from prefvec.plan.rates import PATH_FITS
from prefvec.study import Study
from prefvec.transfer import CONTROLS, DIRECT, UNSCALED, controls_of
from prefvec.transfer import LEARNED as FITTED
from prefvec.transfer.doses import KL_TOKENS
from prefvec.transfer.methods import REVERSED, WRONG, other_traits
from prefvec.transfer.sites import SITE_RANDOM
from prefvec.transfer.truth import load_statements

LEARNED = (*FITTED, *CONTROLS)
SITE_METHODS = ("ridge_concept", "shuffled_pairing", *(f"random_{i}" for i in range(SITE_RANDOM)))
CURVES = {"direct_transfer": ("oracle", "random_0"), "adapters": ("oracle", "ridge_concept", "random_0")}  # fmt: skip
MATCHED_RANDOM = 2  # random directions at equal KL
MATCHED = ("ridge_concept", "procrustes")  # maps that 04 also steers with at equal KL


Conditions = list[tuple[tuple, int | None]]


def pair_stages(study: Study, fetched: tuple[str, ...]) -> list[Stage]:
    """`direct_transfer` and `adapters` of a pair; fetched: the stages that bring its models."""
    name = f"{pair_name(study.settings.source, study.settings.target)}/{study.trait.name}"
    models = (study.settings.source, study.settings.target)
    site = site_work(study)
    out = []
    for rule, notebook, methods in (
        ("direct_transfer", "03", (*DIRECT, UNSCALED)),
        ("adapters", "04", LEARNED),
    ):
        also = _matched(study) if rule == "adapters" else []
        answers, rows = _evaluation(study, methods, CURVES[rule], also)
        work = [*site, *answers]
        if rule == "adapters":
            work += [*_maps(study, name), *_choice(study), *_forced(study, name)]
            work.append(_perplexity(study))
        elif study.settings.intervention_layer < 0:
            work += own_effect(study, study.target)[0]
        out.append(Stage(rule, name, notebook, models, tuple(work), fetched, True, rows))
    return out


def fits(study: Study, key: tuple, fits: int) -> Work:
    """So many fits on all rows of the alignment."""
    n = len(study.styles) * len(study.splits["alignment"])
    return Work("ridge", key, study.source.id, fits, n, target_width=study.target.width)


def site_work(study: Study) -> list[Work]:
    """What choosing layer and dose takes: vectors, alignment, λ paths, answers on the selection."""
    work = [vector(study, study.source), vector(study, study.target)]
    kinds = sorted((study.source.prompt.kind, study.target.prompt.kind))
    for model in (study.source, study.target):
        label = f"alignment {kinds} without {study.trait.name}"
        prompts = partial(study.alignment_prompts, model)
        work.append(captured(study, model, label, prompts, study.layers_of(model)))
    conditions: Conditions = [(("unsteered",), None)]
    for source, target in study.layer_pairs():
        key = ("path", study.source.id, study.target.id, source, target, study.trait.name)
        work.append(fits(study, key, PATH_FITS))
        conditions += [
            ((method, "site", study.source.id, target, dose), target)
            for method in SITE_METHODS
            for dose in study.settings.doses
        ]
    return work + swept(study, study.target, conditions, "selection")


def references(study: Study) -> list[str]:
    """Directions that do not depend on the source."""
    return ["oracle", *(f"random_{i}" for i in range(study.settings.n_random))]


def _steered(study: Study, doses: dict[str, list]) -> Conditions:
    """Conditions of `evaluate`: doses by method. Which layer is chosen is not known before the run: the
    deepest candidate stands for it in the costs."""
    layer, unmapped = study.layers_of(study.target)[-1], references(study)
    conditions: Conditions = [(("unsteered",), None)]
    for method, steps in doses.items():
        shared = () if method in unmapped else (study.source.id,)
        conditions += [((method, *shared, dose), layer) for dose in steps]
    return conditions


def _evaluation(
    study: Study, methods: Sequence[str], curve: Sequence[str], also: Sequence[str]
) -> tuple[list[Work], int]:
    """Answers on the evaluation split, and how many rows their file has; `also`: methods with one more
    dose."""
    doses = {m: study.settings.doses[-1:] for m in (*references(study), *methods)}
    doses |= {method: study.settings.doses for method in curve}
    doses |= {m: [*doses[m], "at equal KL"] for m in also}
    conditions = _steered(study, doses)
    asked = bool(study.trait.instructions or study.trait.examples)
    rows = (len(conditions) + asked) * len(study.splits["evaluation"])
    return swept(study, study.target, conditions, "evaluation", asked), rows


def _matched(study: Study) -> list[str]:
    """Methods with a dose of their own at equal KL, which takes two doses to know."""
    several = len(study.settings.doses) > 1
    return [*MATCHED, *references(study)[1 : 1 + MATCHED_RANDOM]] if several else []


def _maps(study: Study, name: str) -> list[Work]:
    """Contrast data of other traits in both models, the fits, and the λ path without content."""
    models = (study.source, study.target)
    others = [vector(study, model, trait) for trait in other_traits(study) for model in models]
    return [
        *others,
        fits(study, ("maps", name), len(FITTED)),
        fits(study, ("path within", name), PATH_FITS),
    ]


def _choice(study: Study) -> list[Work]:
    """Answers on the questions by which methods are compared."""
    if not study.splits["choice"]:
        return []
    methods = (*references(study), *LEARNED, *(name + REVERSED for name in WRONG))
    doses = {m: study.settings.doses[-1:] for m in methods}
    return swept(study, study.target, _steered(study, doses), "choice")


def _forced(study: Study, name: str) -> list[Work]:
    """Given answers under steering: distances in KL by dose, and for honesty true and false statements."""
    methods, target = [*references(study), *MATCHED], study.target
    plain = [len(study.plain_prompt(target, q)) for q in study.splits["selection"]]
    times = len(methods) * len(study.settings.doses) + 1
    rows = times * len(plain)
    tokens, logits = times * sum(plain) + rows * KL_TOKENS, rows * KL_TOKENS
    work = [Work("score", ("kl", name), target.id, rows, tokens, logits=logits)]
    if study.trait.name == "honest":
        encode, times = target.prompt.encode, len(methods) + len(controls_of("ridge_concept")) + 1
        items = load_statements()[: study.settings.n_statements]
        asked = [len(study.plain_prompt(target, item["question"])) for item in items]
        read = [len(encode(item[kind])) for item in items for kind in ("true", "false")]
        rows, logits = times * len(read), times * sum(read)
        tokens = 2 * times * sum(asked) + logits
        work.append(Work("score", ("truth", name), target.id, rows, tokens, logits=logits))
    return work


def _perplexity(study: Study) -> Work:
    """The reported methods' answers, read by the source model as plain text."""
    questions, times = study.splits["evaluation"], len(READ)
    rows = times * len(questions)
    prompts = sum(len(study.source.prompt.encode(f"{q}\n")) for q in questions)
    logits = round(rows * PERPLEXITY_TOKENS * DISTINCT)
    key = ("perplexity", study.trait.name, study.source.id, study.target.id)
    return Work("score", key, study.source.id, rows, prompts + logits, logits=logits)
