"""What each stage of a profile computes, counted by the code that asks for it.

A `Study` over outlines (sizes and tokenizers, no weights) gives the prompts, layers and splits of the
real run. What two stages both need has the same key, and whoever comes first computes it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from prefvec.batching import shared_beginnings
from prefvec.paths import pair_name, slug
from prefvec.plan.rates import PATH_FITS
from prefvec.plan.shapes import Outline, OutlinePool
from prefvec.profile import Profile
from prefvec.study import CLASSIFIER_PAIRS, CLASSIFIER_TOKENS, JUDGES, Study
from prefvec.transfer import DIRECT
from prefvec.transfer.extensions import SAMPLED
from prefvec.transfer.methods import LEARNED as FITTED
from prefvec.transfer.sites import SITE_RANDOM
from prefvec.transfer.sizes import FOLDS, larger_study, subsets
from prefvec.transfer.spill import SPILL_METHODS
from prefvec.vectors import contrast_prompts

LEARNED = (*FITTED, "shuffled_pairing", "wrong_trait")
SITE_METHODS = ("ridge_concept", "shuffled_pairing", *(f"random_{i}" for i in range(SITE_RANDOM)))
CURVES = {"direct_transfer": ("oracle", "random_0"), "adapters": ("oracle", "ridge_concept", "random_0")}  # fmt: skip
JUDGED_TOKENS = 48  # tokens of an answer that a likelihood score reads
PERPLEXITY_TOKENS = 24
PERPLEXITY_METHODS = 4  # methods whose content and coherence 04 reports
COMPOSED = ("native.b", "native.a+b", "mapped.a", "mapped.b", "mapped.a+b")  # what 04 has not got
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
    for pair in profile.pairs:
        found.append(_extensions(profile, pair, pool, tuple(fetched[name] for name in pair)))
    notebooks = tuple(stage.id for stage in found if stage.notebook)
    found.append(Stage("paper", "", "09", (), (), notebooks))
    if pdf:
        found.append(Stage("pdf", "", "", (), (), ("paper",)))
    return found


def _model_stages(study: Study, fetched: str) -> list[Stage]:
    model, name = study.source, f"{slug(study.settings.source)}/{study.trait.name}"
    plain = _capture(study, model, "plain extraction", _plain(study, model, "extraction"), None)
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


def _extensions(
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
        limit, depth = study.settings.max_new_tokens, 1 - study.layers_of(study.target)[-1] / study.target.n_layers  # fmt: skip
        return [
            Work(
                "generate",
                ("generate", study.target.id, part, name, condition),
                study.target.id,
                len(kept),
                _computed(kept),
                limit,
                depth,
            )  # fmt: skip
            for condition in conditions
        ]

    for other in studies:
        vectors = [t.trait.name for t in studies if t is not other]
        if other.trait.measure == "likelihood" and vectors:
            conditions = [(v, m) for v in vectors for m in ("unsteered", *SPILL_METHODS)]
            work.append(_judged(other, study.target, "evaluation", conditions))
    n_rows = len(study.styles) * len(study.splits["alignment"])
    if len(studies) > 1:
        for model in (study.source, study.target):
            trait = studies[1].trait
            prompts, layers = _contrast(study, model, trait), study.layers_of(model)
            work.append(_capture(study, model, f"extract {trait.name}", prompts, layers))
        work.append(fit("composition", n_rows))
        new = steered("composition", COMPOSED, chosen.n_composed)
        work += new
        answers += (len(new) + 2) * new[0].rows  # the unsteered ones and one vector are 04's
    if chosen.sizes:
        larger = larger_study(study, chosen.size_questions)
        for model in (larger.source, larger.target):
            prompts = _alignment(larger, model)
            label = f"alignment of {len(prompts)} without {study.trait.name}"
            work.append(_capture(larger, model, label, prompts, larger.layers_of(model)))
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
        work += [_classifier_texts(study, name) for name in JUDGES]
    if study.trait.measure == "likelihood":
        work.append(_judged(study, model, split, [condition for condition, *_ in asked]))
    return work


def _judged(study: Study, model: Outline, split: str, conditions: Sequence[tuple]) -> Work:
    """Answers of a model on a split, read by another under the trait's two instructions."""
    questions, judge = study.splits[split], study.judge_of(model)
    rows = len(conditions) * len(questions)
    prompts = [
        tuple(judge.prompt.encode(judge.prompt.render(q, system=side)))
        for side in (study.trait.instructions[0].positive, study.trait.instructions[0].negative)
        for q in questions
    ]
    read = min(study.settings.max_new_tokens, JUDGED_TOKENS)
    tokens = len(conditions) * sum(map(len, prompts)) + 2 * rows * read
    key = ("score", study.trait.name, split, *conditions, model.id, judge.id)
    return Work("score", key, judge.id, 2 * rows, tokens, logits=2 * rows * read)


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
    return Work("generate", key, name, len(prompts), _computed(prompts), CLASSIFIER_TOKENS)


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
