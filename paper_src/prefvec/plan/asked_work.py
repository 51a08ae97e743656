"""What notebooks 06 and 07 ask of a llama.cpp server, beside what 04 has left: an estimate.

The texts that are judged are not known before the run: they count as long as they may be. A judge
behind an API takes no work here, and its time is its own.
"""

from prefvec.blackbox.sweep import DOORS
from prefvec.judge.agreement import coherence_rubric
from prefvec.judge.judging import LOCAL_TOP, is_local
from prefvec.judge.rubrics import ANSWER_TOKENS, Rubric, rubric_for
from prefvec.metrics.gold import load_gold
from prefvec.notebooks import find_notebook, parameters_of
from prefvec.paths import pair_name
from prefvec.plan.counting import Stage, Work, computed_tokens, plain_prompts, task_key, vector
from prefvec.plan.shapes import Outline
from prefvec.profile import Profile
from prefvec.study import Study


def asked_stages(study: Study, profile: Profile, adapters: Stage) -> list[Stage]:
    """Notebooks 06 and 07 of the first pair, for the traits that the profile names."""
    s, out = study.settings, []
    if (s.source, s.target) != profile.pairs[0]:
        return out
    name = f"{pair_name(s.source, s.target)}/{study.trait.name}"
    needs = (*adapters.needs, adapters.id)
    if s.trait in profile.judge.traits:
        work, rows = _judged(study, profile, name)
        out.append(Stage("judge", name, "06", (), tuple(work), needs, True, rows))
    if s.trait in profile.black_box.traits:
        work, rows = _boxed(study, profile, name)
        out.append(Stage("black_box", name, "07", (s.target,), tuple(work), needs, True, rows))
    return out


def _judged(study: Study, profile: Profile, name: str) -> tuple[list[Work], int]:
    """Labelled and broken texts, and each condition's answers for the trait and for coherence."""
    chosen = profile.judge
    rows = chosen.n_judged * len(parameters_of(find_notebook("06"))["judged_methods"])
    if not is_local(chosen.judge_model):
        return [], rows
    model, trait, coherence = study.pool.get(chosen.judge_model), rubric_for(study.trait), coherence_rubric()  # fmt: skip
    labelled = load_gold(study.trait.name)[: chosen.n_gold]
    whole = labelled or load_gold("formality")[: chosen.n_gold]
    gold = [(pair.question, text) for pair in labelled for text in (pair.positive, pair.negative)]
    broken = [(pair.question, pair.positive) for pair in whole[: chosen.n_broken]] * 2
    prompts = [_request(model, trait, *item) for item in gold]
    prompts += [_request(model, coherence, *item) for item in broken]
    questions = study.splits["evaluation"][: chosen.n_judged]
    asked = [_request(model, r, q, "") for r in (trait, coherence) for q in questions]
    times, n = rows // len(questions), len(asked)
    tokens = computed_tokens(prompts) + times * (computed_tokens(asked) + n * study.settings.max_new_tokens)  # fmt: skip
    count = len(prompts) + times * n
    return [Work("ask", ("judge", name), model.id, count, tokens, ANSWER_TOKENS)], rows


def _request(model: Outline, rubric: Rubric, question: str, text: str) -> tuple:
    """Token ids of a request to a local judge."""
    one = rubric.ask(question, text, LOCAL_TOP)
    return tuple(model.prompt.encode(model.prompt.render(one.user, system=one.system)))


def _boxed(study: Study, profile: Profile, name: str) -> tuple[list[Work], int]:
    """Answers of every condition; what modulation asks with three vectors is asked once."""
    chosen, declared = profile.black_box, parameters_of(find_notebook("07"))
    steps = {door: len(declared["biases" if door == "logit bias" else "coefficients"]) for door in DOORS}  # fmt: skip
    rows = 2 + sum(len(names) * steps[door] for door, names in DOORS.items())
    equal = sum((len(names) - 1) * steps[door] for door, names in DOORS.items() if door != "logit bias")  # fmt: skip
    prompts = plain_prompts(study, study.target, "evaluation")[: chosen.n_asked]
    each, times = len(prompts) * chosen.n_draws, rows - equal
    own = [vector(study, study.target, trait) for trait in (None, study.control_trait)]
    key = ("black box", name, *task_key(study))
    tokens = chosen.n_draws * times * computed_tokens(prompts)
    asked = Work("ask", key, study.target.id, times * each, tokens, chosen.box_tokens)
    return [*own, asked], rows * each
