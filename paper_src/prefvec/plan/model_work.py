"""What the stages of one model compute: notebooks 01 and 02."""

from prefvec.metrics.gold import load_gold
from prefvec.metrics.trait import JUDGED_TOKENS
from prefvec.paths import slug
from prefvec.plan.counting import (
    Stage,
    Work,
    captured,
    computed_tokens,
    contrast_ids,
    plain_prompts,
    scored,
    swept,
    texts_key,
    vector,
)
from prefvec.plan.shapes import Outline
from prefvec.study import CLASSIFIER_TOKENS, RESPONSE_PAIRS, Study
from prefvec.summaries import combinations, pole_prompts, token_limit
from prefvec.validation import OTHER_METHODS
from prefvec.vectors import contrast_prompts


def model_stages(study: Study, fetched: str) -> list[Stage]:
    """`extract` and `validate` of the study's source; fetched: the stage that brings the model."""
    model, name = study.source, f"{slug(study.settings.source)}/{study.trait.name}"
    plain = plain_prompts(study, model, "extraction")
    work = (
        vector(study, model), captured(study, model, "plain extraction", lambda: plain, None),
        *_other_ways(study, model), *_summaries(study, model),
    )  # fmt: skip
    extracted = Stage("extract", name, "01", _models(model, work), work, (fetched,))
    own, conditions = own_effect(study, model)
    layer, dose = study.candidate_layers(model)[-1], study.settings.doses[-1]
    others = [((method, layer, dose), layer) for method in OTHER_METHODS]
    work = (
        vector(study, model), *_gold(study, model), *own,
        *swept(study, model, others, "selection"),
    )  # fmt: skip
    validated = Stage(
        "validate", name, "02", _models(model, work), work, (extracted.id,),
        answers=(conditions + len(others)) * len(study.splits["selection"]),
    )  # fmt: skip
    return [extracted, validated]


def own_effect(study: Study, model: Outline) -> tuple[list[Work], int]:
    """`validate`: answers under the model's own vector, and how many conditions they have."""
    layers, doses = study.candidate_layers(model), study.settings.doses
    conditions = [(("own", layer, dose), layer) for layer in layers for dose in doses]
    conditions.insert(0, (("unsteered",), None))
    return swept(study, model, conditions, "selection"), len(conditions)


def _models(model: Outline, work: tuple[Work, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((model.id, *(w.model for w in work))))


def _other_ways(study: Study, model: Outline) -> list[Work]:
    """`compare_ways`: the model's own answers to the first pair, read at the candidate layers; what is
    kept of the sublayers, which are read in the vector's own pass."""
    layers, questions = study.candidate_layers(model), study.splits["extraction"]
    poles = contrast_prompts(model, study.trait, questions, RESPONSE_PAIRS)
    prompts, written, work = [p.ids for pole in poles for p in pole], 0, []
    if not study.trait.positive_texts:
        written, key = CLASSIFIER_TOKENS, texts_key(study, model.id, 0)
        tokens = computed_tokens(prompts)
        work.append(Work("generate", key, model.id, len(prompts), tokens, written))
    read = captured(study, model, f"answers {study.trait.name}", lambda: prompts, layers)
    sublayers = 2 * 4 * len(layers) * model.width * len(contrast_ids(study, model, study.trait))
    # A mean is taken over each row's own pass: nothing is shared.
    tokens = sum(len(p) + written for p in prompts)
    return [*work, read._replace(tokens=tokens, kept=read.kept + sublayers)]


def _summaries(study: Study, model: Outline) -> list[Work]:
    """What 01 has the model write, score and read again: pairs of summaries."""
    chosen, limit = combinations(study, model), token_limit(study)
    if not chosen:
        return []
    key, n = ("summaries", study.trait.name, model.id), len(chosen)
    articles = [article.prompt for article, _ in chosen]
    work = []
    for pole in ("positive", "negative"):
        tokens = computed_tokens(pole_prompts(study, model, pole))
        work.append(Work("generate", (*key, pole), model.id, n, tokens, limit))
    layer = study.candidate_layers(model)[-1]
    read = 2 * (sum(len(study.plain_prompt(model, a)) for a in articles) + n * limit)
    kept, depth = 2 * n * model.width * 4, (layer + 1) / model.n_layers
    work.append(Work("capture", (*key, layer), model.id, 2 * n, read, depth=depth, kept=kept))
    return work + scored(study, model, articles, ("summaries",), 2)


def _gold(study: Study, model: Outline) -> list[Work]:
    """Labelled texts under opposite instructions, read by the judge."""
    trait, pairs = study.trait, load_gold(study.trait.name)
    if not pairs or not trait.instructions:
        return []
    judge, first = study.judge_of(model), trait.instructions[0]
    encode, render = judge.prompt.encode, judge.prompt.render
    texts = [(p.question, t) for p in pairs for t in (p.positive, p.negative)]
    read = [min(JUDGED_TOKENS, len(encode(text))) for _, text in texts] * 2
    prompts = [
        len(encode(render(q, system=side))) for side in (first.positive, first.negative) for q, _ in texts
    ]  # fmt: skip
    key, logits = ("gold", trait.name, judge.id), sum(read)
    return [Work("score", key, judge.id, len(read), sum(prompts) + logits, logits=logits)]
