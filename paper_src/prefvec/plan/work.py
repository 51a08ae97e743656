"""What each stage of a profile computes, counted by the code that asks for it.

A `Study` over outlines (sizes and tokenizers, no weights) gives the prompts, layers and splits of the
real run. What two stages both need has the same key, and whoever comes first computes it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from prefvec.batching import shared_beginnings
from prefvec.metrics.gold import load_gold
from prefvec.paths import pair_name, slug
from prefvec.plan.rates import PATH_FITS
from prefvec.plan.shapes import Outline, OutlinePool
from prefvec.profile import Profile
from prefvec.study import CLASSIFIER_PAIRS, CLASSIFIER_TOKENS, JUDGES, RESPONSE_PAIRS, Study
from prefvec.transfer import DIRECT, UNSCALED
from prefvec.transfer.methods import LEARNED as FITTED
from prefvec.transfer.sites import SITE_RANDOM
from prefvec.validation import OTHER_METHODS
from prefvec.vectors import contrast_prompts

LEARNED = (*FITTED, "shuffled_pairing", "wrong_trait")
SITE_METHODS = ("ridge_concept", "shuffled_pairing", *(f"random_{i}" for i in range(SITE_RANDOM)))
CURVES = {"direct_transfer": ("oracle", "random_0"), "adapters": ("oracle", "ridge_concept", "random_0")}  # fmt: skip
JUDGED_TOKENS = 48  # tokens of an answer that a likelihood score reads
PERPLEXITY_TOKENS = 24
PERPLEXITY_METHODS = 4  # methods whose content and coherence 04 reports
EXTRA_FITS = len(FITTED)  # decompositions of 04's maps


class Work(NamedTuple):
    """One piece of work. `tokens` go through `depth` of the model's blocks before the first new
    token; `logits` of them are read at the output head; `new_tokens` is the limit of an answer.
    `ridge`: so many fits (`rows`) of `tokens` prompts to a width of `target_width`."""

    kind: Literal["capture", "generate", "score", "ridge"]
    key: tuple
    model: str
    rows: int
    tokens: int = 0
    new_tokens: int = 0
    depth: float = 1.0
    logits: int = 0
    target_width: int = 0
    kept: int = 0  # bytes that stay in the cache


class Stage(NamedTuple):
    """One job of the pipeline: a rule with its wildcards (`name`), what it needs and computes."""

    rule: str
    name: str
    notebook: str
    models: tuple[str, ...]
    work: tuple[Work, ...]
    needs: tuple[str, ...]
    whole: bool = False  # takes all cores (else half of them)
    answers: int = 0  # rows of its generations file

    @property
    def id(self) -> str:
        """Rule and wildcards, as one string."""
        return f"{self.rule} {self.name}".strip()


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
    notebooks = tuple(stage.id for stage in found if stage.notebook)
    found.append(Stage("paper", "", "09", (), (), notebooks))
    if pdf:
        found.append(Stage("pdf", "", "", (), (), ("paper",)))
    return found


def _model_stages(study: Study, fetched: str) -> list[Stage]:
    model, name = study.source, f"{slug(study.settings.source)}/{study.trait.name}"
    plain = _capture(study, model, "plain extraction", _plain(study, model, "extraction"), None)
    work = (_vector(study, model), plain, *_other_ways(study, model))
    extracted = Stage("extract", name, "01", (model.id,), work, (fetched,))
    own, conditions = _own_effect(study, model)
    layer, dose = study.candidate_layers(model)[-1], study.settings.doses[-1]
    others = [((method, layer, dose), layer) for method in OTHER_METHODS]
    work = (
        _vector(study, model), *_gold(study, model), *own,
        *_sweep(study, model, others, "selection"),
    )  # fmt: skip
    models = tuple(dict.fromkeys(w.model for w in work))
    validated = Stage(
        "validate", name, "02", models, work, (extracted.id,),
        answers=(conditions + len(others)) * len(study.splits["selection"]),
    )  # fmt: skip
    return [extracted, validated]


def _own_effect(study: Study, model: Outline) -> tuple[list[Work], int]:
    """`validate`: answers under the model's own vector, and how many conditions they have."""
    layers, doses = study.candidate_layers(model), study.settings.doses
    conditions = [(("own", layer, dose), layer) for layer in layers for dose in doses]
    conditions.insert(0, (("unsteered",), None))
    return _sweep(study, model, conditions, "selection"), len(conditions)


def _other_ways(study: Study, model: Outline) -> list[Work]:
    """`compare_ways`: the model's own answers to the first pair, read at the candidate layers; what is
    kept of the sublayers, which are read in the vector's own pass."""
    layers, questions = study.candidate_layers(model), study.splits["extraction"]
    poles = contrast_prompts(model, study.trait, questions, RESPONSE_PAIRS)
    prompts, written, work = [p.ids for pole in poles for p in pole], 0, []
    if not study.trait.positive_texts:
        written = CLASSIFIER_TOKENS
        key = ("texts", study.trait.name, model.id, 0)
        work.append(Work("generate", key, model.id, len(prompts), _computed(prompts), written))
    read = _capture(study, model, f"answers {study.trait.name}", prompts, layers)
    sublayers = 2 * 4 * len(layers) * model.width * len(_contrast(study, model, study.trait))
    # A mean is taken over each row's own pass: nothing is shared.
    tokens = sum(len(p) + written for p in prompts)
    return [*work, read._replace(tokens=tokens, kept=read.kept + sublayers)]


def _gold(study: Study, model: Outline) -> list[Work]:
    """Labelled texts under opposite instructions, read by the judge."""
    trait, pairs = study.trait, load_gold(study.trait.name)
    if not pairs or not trait.instructions:
        return []
    judge, first = study.judge_of(model), trait.instructions[0]
    encode, render = judge.prompt.encode, judge.prompt.render
    texts = [(p.question, t) for p in pairs for t in (p.positive, p.negative)]
    read = [min(JUDGED_TOKENS, len(encode(text))) for _, text in texts] * 2
    prompts = [len(encode(render(q, system=s))) for s in (first.positive, first.negative) for q, _ in texts]  # fmt: skip
    key = ("gold", trait.name, judge.id)
    logits = sum(read)
    return [Work("score", key, judge.id, len(read), sum(prompts) + logits, logits=logits)]


def _pair_stages(study: Study, fetched: tuple[str, ...]) -> list[Stage]:
    name = f"{pair_name(study.settings.source, study.settings.target)}/{study.trait.name}"
    models = (study.settings.source, study.settings.target)
    site = _site(study)
    out = []
    for rule, notebook, methods in (
        ("direct_transfer", "03", (*DIRECT, UNSCALED)),
        ("adapters", "04", LEARNED),
    ):
        answers, rows = _evaluation(study, methods, CURVES[rule])
        work = [*site, *answers]
        if rule == "direct_transfer" and study.settings.intervention_layer < 0:
            work += _own_effect(study, study.target)[0]
        if rule == "adapters":
            wrong = study.layers_of(study.source)
            trait = study.control_trait
            prompts = _contrast(study, study.source, trait)
            work.append(_capture(study, study.source, f"extract {trait.name}", prompts, wrong))
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
        work.append(_capture(study, model, label, _alignment(study, model), study.layers_of(model)))
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
    plain = _plain(study, model, split)
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
            Work("generate", key, model.id, len(questions), _computed(prompts), limit, 1 - shared)
        )
    if study.trait.measure == "classifier":
        work += [w for name in JUDGES for w in _classifier_texts(study, name)]
    if study.trait.measure == "likelihood":
        judge, rows = study.judge_of(model), len(asked) * len(questions)
        prompts = [
            tuple(judge.prompt.encode(judge.prompt.render(q, system=side)))
            for side in (study.trait.instructions[0].positive, study.trait.instructions[0].negative)
            for q in questions
        ]
        read = min(limit, JUDGED_TOKENS)
        tokens = len(asked) * sum(map(len, prompts)) + 2 * rows * read
        key = ("score", study.trait.name, split, *(c for c, _, _ in asked), model.id, judge.id)
        work.append(Work("score", key, judge.id, 2 * rows, tokens, logits=2 * rows * read))
    return work


def _classifier_texts(study: Study, name: str) -> list[Work]:
    """What a chat model writes under opposite instructions, to train the trait's classifier: one piece
    an instruction pair (the first is read for mean-response pooling too)."""
    model, work = study.pool.get(name), []
    for i, pair in enumerate(study.trait.instructions[:CLASSIFIER_PAIRS]):
        prompts = [
            tuple(model.prompt.encode(model.prompt.render(q, system=told)))
            for told in (pair.positive, pair.negative)
            for q in study.splits["extraction"]
        ]
        key = ("texts", study.trait.name, name, i)
        tokens = _computed(prompts)
        work.append(Work("generate", key, name, len(prompts), tokens, CLASSIFIER_TOKENS))
    return work


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
    return _capture(study, model, label, _contrast(study, model, study.trait), None)


def _contrast(study: Study, model: Outline, trait) -> list[tuple]:
    questions, count = study.splits["extraction"], study.settings.n_instructions
    positive, negative = contrast_prompts(model, trait, questions, count)
    return [prompt.ids for prompt in positive + negative]


def _capture(study: Study, model: Outline, label: str, prompts: list, layers) -> Work:
    chosen = list(range(model.n_layers)) if layers is None else layers
    kept = len(prompts) * len(chosen) * model.width * 4
    key = ("capture", model.id, label, *chosen)
    depth = (max(chosen) + 1) / model.n_layers
    tokens = _computed(prompts)
    return Work("capture", key, model.id, len(prompts), tokens, depth=depth, kept=kept)


def _plain(study: Study, model: Outline, split: str) -> list[tuple]:
    return [study.plain_prompt(model, question) for question in study.splits[split]]


def _alignment(study: Study, model: Outline) -> list[tuple]:
    """The prompts of `Study.alignment`."""
    base = "examples" in (study.source.prompt.kind, study.target.prompt.kind)
    shown = [
        {"examples": style.examples} if base else {"system": style.instruction}
        for style in study.styles
    ]
    render, encode = model.prompt.render, model.prompt.encode
    return [tuple(encode(render(q, **how))) for how in shown for q in study.splits["alignment"]]


def _computed(prompts: Sequence[tuple]) -> int:
    """Tokens that pass through the model for a list of prompts: a shared beginning counts once."""
    distinct = sorted(set(map(tuple, prompts)))
    groups = shared_beginnings(distinct)
    return sum(g.shared + sum(len(distinct[i]) - g.shared for i in g.members) for g in groups)
