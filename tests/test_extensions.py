"""Notebook 08's library: planted spill, additive effects, nested subsets, and missing stages."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from prefvec.errors import ConfigError, ReportError
from prefvec.generation import generate
from prefvec.notebooks import parameters_of
from prefvec.paths import NOTEBOOKS, pair_name
from prefvec.profile import Extensions, Profile, Settings, load_profile
from prefvec.report import extension_views as views
from prefvec.report import spilled
from prefvec.report.views import plain
from prefvec.stats import Estimate
from prefvec.steering import Steer
from prefvec.store import write_json
from prefvec.study import Alignment, Study
from prefvec.traits import load_styles, load_trait
from prefvec.transfer import extensions, saved, sizes, spill

TRAITS = ("verbosity", "formality")
SIGNS = {name: load_trait(name).sign for name in TRAITS}
QUESTIONS = [f"q{i}" for i in range(30)]


def planted(spills: dict[tuple[str, str], float], spread: float = 3.0) -> pd.DataFrame:
    """Scores whose effects are known, in SDs of the unsteered ones towards each measured trait's pole."""
    generator = np.random.default_rng(0)
    base = {name: generator.normal(50, spread, len(QUESTIONS)) for name in TRAITS}
    tables = []
    for vector in TRAITS:
        for measured in TRAITS:
            sd = base[measured].std(ddof=1)
            noise = generator.normal(0, 0.05 * sd, len(QUESTIONS))
            shift = SIGNS[measured] * spills[vector, measured] * sd
            for method, scores in (
                ("unsteered", base[measured]),
                ("oracle", base[measured] + shift + noise),
            ):
                frame = pd.DataFrame({"method": method, "question": QUESTIONS, "score": scores})
                tables.append(frame.assign(vector=vector, measured=measured))
    return pd.concat(tables, ignore_index=True)


PLANTED = {
    ("verbosity", "verbosity"): 2.0, ("verbosity", "formality"): 0.5,
    ("formality", "verbosity"): -1.0, ("formality", "formality"): 1.0,
}  # fmt: skip


def test_a_planted_spill_is_found_with_its_sign_and_scale():
    effects = spill.spill_effects(planted(PLANTED), SIGNS)
    frame = spill.spill_frame(effects).set_index(["vector", "measured"]).effect
    # Two equal groups whose means are d SDs apart have a spread of sqrt(1 + d²/4) SDs together.
    wanted = {(v, m): x / (1 + PLANTED[m, m] ** 2 / 4) ** 0.5 for (v, m), x in PLANTED.items()}
    for entry, value in wanted.items():
        found = frame[entry]
        assert found.value == pytest.approx(value, abs=0.05)
        assert found.low <= found.value <= found.high and found.low * found.high > 0
    own = [x for (v, m), x in wanted.items() if v == m]
    off = [abs(x) for (v, m), x in wanted.items() if v != m]
    ratio = spill.spill_ratio(effects, "oracle")
    assert ratio.value == pytest.approx(np.mean(off) / np.mean(own), abs=0.02)
    assert ratio.low < ratio.value < ratio.high
    assert spill.spill_level(effects, "oracle").value == pytest.approx(np.mean(off), abs=0.03)


def test_the_yardstick_is_the_spread_without_and_under_a_trait_s_own_vector():
    scores = planted(PLANTED)
    own = scores[(scores.measured == "formality") & (scores.vector == "formality")]
    assert spill.yardsticks(scores)["formality"] == pytest.approx(own.score.std(ddof=1))
    # All unsteered answers cut at the limit of a length: a yardstick all the same.
    base = (scores.measured == "verbosity") & (scores.method == "unsteered")
    cut = scores.assign(score=scores.score.where(~base, 64.0))
    effects = spill.spill_effects(cut, SIGNS)["oracle", "verbosity", "verbosity"]
    assert 0 < abs(effects.mean()) < 2
    flat = scores.assign(score=scores.score.where(scores.measured != "verbosity", 64.0))
    assert np.isnan(spill.yardsticks(flat)["verbosity"])
    assert all(
        np.isnan(v).all()
        for k, v in spill.spill_effects(flat, SIGNS).items()
        if k[2] == "verbosity"
    )


def test_a_spill_does_not_depend_on_the_scores_unit_and_an_empty_answer_has_no_effect():
    scores = planted(PLANTED)
    scaled = scores.assign(score=scores.score * np.where(scores.measured == "formality", 100, 1))
    a, b = (spill.spill_effects(s, SIGNS) for s in (scores, scaled))
    for key in a:
        np.testing.assert_allclose(a[key], b[key])
    scores.loc[scores.method == "oracle", "score"] = np.nan
    assert all((v == 0).all() for v in spill.spill_effects(scores, SIGNS).values())


def test_a_ratio_without_an_intended_effect_is_no_number():
    nothing = spill.spill_effects(
        planted(dict.fromkeys(PLANTED, 0.0) | {("verbosity", "verbosity"): -2.0}), SIGNS
    )
    assert spill.spill_ratio(nothing, "oracle").as_json()[0] is None


def test_the_spill_figure_marks_what_was_intended_and_prints_intervals():
    frame = spill.spill_frame(spill.spill_effects(planted(PLANTED), SIGNS))
    traits = {name: views.pole(load_trait(name)) for name in TRAITS}
    figure = views.spill_matrix(frame, traits, ["oracle"], "t")
    texts = [t.get_text() for t in figure.axes[0].texts]
    first, third = frame.effect[0], frame.effect[2]
    assert texts[0] == f"{first.value:.2f}" and texts[4] == f"{third.value:.2f}"
    assert texts[1] == f"[{first.low:.2f},\n{first.high:.2f}]"
    assert "concise" in figure.axes[0].get_xticklabels()[0].get_text()
    assert len(figure.axes[0].patches) == len(TRAITS)


def composed(interaction: float) -> pd.DataFrame:
    """Answers whose effects on both scores are a, b and a + b + interaction."""
    base = np.random.default_rng(1).normal(40, 5, len(QUESTIONS))
    base = 40 + 5 * (base - base.mean()) / base.std(ddof=1)
    per_prompt = np.random.default_rng(2).normal(-6, 2, len(QUESTIONS))
    effects = {"unsteered": 0.0}
    for kind in ("native", "mapped"):
        effects |= {
            f"{kind}.a": per_prompt,
            f"{kind}.b": -2.0,
            f"{kind}.a+b": per_prompt - 2.0 + interaction,
        }
    return pd.concat(
        [
            pd.DataFrame({"method": m, "seed": 0, "question": QUESTIONS, "collapsed": m == "native.a+b",
                          "score.verbosity": base + e, "score.formality": base + e})
            for m, e in effects.items()
        ]
    )  # fmt: skip


def test_additive_effects_have_no_interaction_and_others_have_theirs():
    spreads = dict.fromkeys(SIGNS, 5.0)
    rows = extensions.interactions(composed(0.0), SIGNS, spreads)
    assert len(rows) == 4
    for estimate in rows.interaction:
        np.testing.assert_allclose(estimate, 0, atol=1e-9)
    assert [e.value for e in rows.b] == pytest.approx([2.0 / 5] * 4)  # both are steered downwards
    assert list(rows.collapsed) == [1.0, 0.0, 1.0, 0.0]
    for estimate in extensions.interactions(composed(3.0), SIGNS, spreads).interaction:
        assert estimate.value == pytest.approx(-3.0 / 5)
    assert "interaction" in views.composition_table(rows, TRAITS, plain)


def test_two_vectors_at_once_are_their_sum(llama, store):
    generator = np.random.default_rng(0)
    a, b = (np.float32(generator.normal(size=llama.width)) for _ in range(2))
    study = SimpleNamespace(
        target=llama, store=store, settings=SimpleNamespace(max_new_tokens=8),
        plain_prompt=lambda loaded, q: tuple(loaded.prompt.encode(q)),
    )  # fmt: skip
    conditions = {
        "unsteered": (), "both": (Steer(a, 1, 4.0), Steer(b, 1, -4.0)), "sum": (Steer(a - b, 1, 4.0),),
    }  # fmt: skip
    table = extensions.steered_answers(study, conditions, ["why", "how", "who"], 0.8, (0, 1))
    assert len(table) == 3 * 2 * 3 and set(table.seed) == {0, 1}
    texts = {m: list(t.text) for m, t in table.groupby("method")}
    assert texts["both"] == texts["sum"] != texts["unsteered"]
    again = extensions.steered_answers(study, conditions, ["why", "how", "who"], 0.8, (0, 1))
    pd.testing.assert_frame_equal(table, again)
    requests_of = extensions.Request(study.plain_prompt(llama, "why"))
    assert generate(llama, [requests_of], 8, 0.8)[0].text == texts["unsteered"][0]


def test_rows_close_to_the_second_trait_are_left_out():
    styles = tuple(s.id for s in load_styles() for _ in range(2))
    alignment = Alignment({}, {}, styles, ("q",) * len(styles))
    rows = extensions.rows_without(alignment, load_trait("formality"))
    assert {styles[i] for i in rows} == {s.id for s in load_styles("formality")}
    assert 0 < len(rows) < len(styles)


def test_variance_is_split_between_seeds_prompts_and_the_rest():
    generator = np.random.default_rng(0)
    seeds, prompts = 40, 400
    effects = (
        generator.normal(0, 1.0, seeds)[:, None]
        + generator.normal(0, 3.0, prompts)
        + generator.normal(0, 2.0, (seeds, prompts))
    )
    found = extensions.variance_components(effects)
    assert found["prompt"] == pytest.approx(9, rel=0.2)
    assert found["rest"] == pytest.approx(4, rel=0.05)
    assert found["seed"] == pytest.approx(1, rel=0.5)
    alike = np.tile(generator.normal(size=10), (3, 1))
    assert extensions.variance_components(alike)["seed"] == 0
    assert np.isnan(extensions.variance_components(effects[:1])["seed"])


def test_sampled_effects_are_paired_within_a_seed():
    rows = [
        (method, seed, q, 10.0 * seed + shift)
        for method, shift in (
            ("unsteered", 0),
            ("oracle", -4),
            ("ridge_concept", -2),
            ("random_0", 0),
        )
        for seed in (0, 1, 2)
        for q in QUESTIONS
    ]
    table = pd.DataFrame(rows, columns=["method", "seed", "question", "score"])
    summary = extensions.sampling_summary(table, -1).set_index("method")
    assert summary.effect["ridge_concept"].value == 2 and summary.te["ridge_concept"].value == 0.5
    assert summary.lowest["oracle"] == summary.highest["oracle"] == 4
    assert summary.seed["oracle"] == 0


STYLES = [f"s{i}" for i in range(7) for _ in range(5 if i else 3)]


@pytest.mark.parametrize("seed", range(3))
def test_subsets_are_nested_and_have_as_many_styles_as_they_can(seed):
    order = sizes.nested_order(STYLES, seed)
    assert sorted(order) == list(range(len(STYLES)))
    for n in range(1, len(order) + 1):
        counts = pd.Series([STYLES[i] for i in order[:n]]).value_counts()
        assert len(counts) == min(n, 7)
        full = counts.drop("s0", errors="ignore")  # the style with fewer rows may lag behind
        assert full.empty or full.max() - full.min() <= 1


def test_subsets_of_a_seed_are_nested_and_all_rows_count_once():
    found = sizes.subsets(STYLES, [7, 14, 33, 500])
    assert [(len(s.rows), s.seed) for s in found] == [
        (7, 0),
        (7, 1),
        (7, 2),
        (14, 0),
        (14, 1),
        (14, 2),
        (33, 0),
    ]
    by = {(len(s.rows), s.seed): set(s.rows.tolist()) for s in found}
    assert all(by[7, s] < by[14, s] for s in range(3))
    assert by[7, 0] != by[7, 1]


def test_held_out_styles_are_found_through_a_true_map_and_not_through_noise():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(20, 12)) * 3
    styles = [f"s{i}" for i in range(20) for _ in range(6)]
    x = np.repeat(centres, 6, axis=0) + generator.normal(size=(120, 12))
    y = x @ generator.normal(size=(12, 9))
    rows = sizes.nested_order(styles, 0)
    by_size = [sizes.held_out_cosine(x, y, styles, rows[:n], 0.01) for n in (20, 40, 120)]
    assert by_size == sorted(by_size) and by_size[-1] > 0.99
    noise = generator.normal(size=(120, 9))
    assert abs(sizes.held_out_cosine(x, noise, styles, rows, 0.01)) < 0.4


def test_the_curve_averages_over_subsets_prompt_by_prompt():
    n = 40
    effects = {
        "size_50.0": np.full(n, 2.0),
        "size_50.1": np.full(n, 6.0),
        "size_90.0": np.full(n, 8.0),
    }
    frame = pd.DataFrame(
        {"method": list(effects), "size": [50, 50, 90], "seed": [0, 1, 0],
         "concept_cosine": [0.2, 0.4, 0.6], "cosine_to_own": [0.1, 0.1, 0.3]}
    )  # fmt: skip
    noise = np.random.default_rng(0).normal(0, 0.1, (4, n))
    summary = sizes.curve_summary(frame, effects, noise, np.full(n, 8.0), 0)
    assert [e.value for e in summary.effect] == [4.0, 8.0]
    assert [e.value for e in summary.te] == pytest.approx([0.5, 1.0], abs=0.02)
    assert list(summary.concept_cosine) == pytest.approx([0.3, 0.6])
    frame["te"] = [Estimate(0.5, 0.4, 0.6)] * 3
    axes = views.size_curve(frame, summary, 90, "t").axes
    assert axes[1].get_xscale() == "log" and axes[1].collections
    assert "rows" in axes[1].get_xlabel()


def test_a_difference_of_estimates_has_the_interval_of_both():
    gap = extensions.estimate_difference(Estimate(0.9, 0.6, 1.2), Estimate(0.5, 0.1, 0.9))
    assert gap.value == pytest.approx(0.4)
    assert (gap.low, gap.high) == (pytest.approx(-0.1), pytest.approx(0.9))


PAIR = ("qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct")


def settings_of(trait: str) -> Settings:
    return load_profile("smoke").settings_for(*PAIR, trait).model_copy(update={"n_evaluation": 6})


def save_cell(
    root,
    pair,
    trait: str,
    efficiency: float = 0.5,
    methods=("oracle", "ridge_concept", "mlp", "multiscale"),
):
    """What 04 leaves, written by hand: 08 reads these files."""
    settings = settings_of(trait).model_copy(update={"source": pair[0], "target": pair[1]})
    study = Study(settings)
    folder = root / settings.profile / saved.pair_name(*pair) / trait
    folder.mkdir(parents=True)
    manifest = {
        "settings": settings.model_dump(), "trait_digest": study.trait.digest,
        "site": {"layer_source": 3, "layer_target": 4, "dose": 1.5},
    }  # fmt: skip
    (folder / "manifest_04.json").write_text(json.dumps(manifest))
    gains = {"oracle": 9.0, "ridge_concept": 7.0, "mlp": 4.0, "multiscale": 7.0}
    rows = [
        {"method": m, "layer": 4, "dose": d, "question": q, "text": "1969", "n_tokens": 5, "finish": "stop",
         "collapsed": False, "score": 30.0 + i + study.trait.sign * g}
        for m, d, g in [("unsteered", 0.0, 0.0)] + [(m, study.trait.sign * 1.5, gains[m]) for m in methods]
        for i, q in enumerate(study.splits["evaluation"])
    ]  # fmt: skip
    (folder / "generations_04.jsonl").write_text("\n".join(map(json.dumps, rows)))
    records = [
        {"method": m, "metric": "effect", "dose": study.trait.sign * d, "transfer_efficiency": te,
         "te_ci_low": te - 0.1, "te_ci_high": te + 0.1}
        for m, d, te in (("ridge_concept", 1.0, 9.0), ("ridge_concept", 1.5, efficiency), ("shuffled_pairing", 1.5, 0.0))
    ]  # fmt: skip
    (folder / "results_04.json").write_text(json.dumps(records))


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "RESULTS", tmp_path)
    return tmp_path


def test_a_stage_that_has_not_run_is_an_error_that_names_it(results):
    with pytest.raises(
        ReportError, match=f"run notebook 04 for {PAIR[0]} → {PAIR[1]}, trait verbosity"
    ):
        saved.load_cells("smoke", *PAIR, ["verbosity"])
    save_cell(results, PAIR, "verbosity", methods=("oracle", "ridge_concept"))
    cell = saved.load_cell("smoke", *PAIR, "verbosity")
    with pytest.raises(
        ReportError, match="lacks answers of 'mlp' at dose -1.5: run notebook 04 again"
    ):
        extensions.linear_gains(cell)
    (results / "smoke" / saved.pair_name(*PAIR) / "verbosity" / "generations_04.jsonl").unlink()
    with pytest.raises(ReportError, match="generations_04.jsonl is missing"):
        saved.load_cell("smoke", *PAIR, "verbosity")


def test_what_04_computed_in_is_gone_on_with(results):
    """Not what `auto` would choose on the machine that goes on."""
    save_cell(results, PAIR, "verbosity")
    path = results / "smoke" / saved.pair_name(*PAIR) / "verbosity" / "manifest_04.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["dtype"] = "auto"
    path.write_text(json.dumps(manifest))
    assert saved.load_cell("smoke", *PAIR, "verbosity").study.settings.dtype == "auto"
    for dtype in ("float32", "bfloat16"):
        models = {name: {"dtype": dtype} for name in PAIR}
        path.write_text(json.dumps(manifest | {"models": models}))
        assert saved.load_cell("smoke", *PAIR, "verbosity").study.settings.dtype == dtype


def test_saved_answers_come_back_with_their_settings(results):
    for trait in TRAITS:
        save_cell(results, PAIR, trait)
    cells = saved.load_cells("smoke", *PAIR, TRAITS)
    assert cells["formality"].study.pool is cells["verbosity"].study.pool
    cell = cells["verbosity"]
    assert cell.dose == -1.5 and cell.study.settings == settings_of("verbosity")
    answers = cell.at("oracle")
    assert list(answers.question) == cell.study.splits["evaluation"]
    assert set(answers.text) == {"1969"}  # a text, not a number


def test_the_linear_map_is_held_against_the_others_prompt_by_prompt(results):
    save_cell(results, PAIR, "formality")
    gains = extensions.linear_gains(saved.load_cell("smoke", *PAIR, "formality")).set_index("other")
    assert gains.gain["mlp"] == pytest.approx((3.0, 3.0, 3.0))
    assert gains.gain["multiscale"] == pytest.approx((0.0, 0.0, 0.0))
    cell = saved.load_cell("smoke", *PAIR, "formality")
    both = pd.concat([cell.at("unsteered").score, cell.at("oracle").score])
    assert gains.standardised["mlp"].value == pytest.approx(3.0 / both.astype(float).std(ddof=1))


def test_both_directions_are_compared_at_the_chosen_dose_where_both_have_run(results):
    save_cell(results, PAIR, "verbosity", 0.9)
    one_way = extensions.symmetry("smoke", *PAIR, ["verbosity"]).iloc[0]
    assert one_way.there.value == 0.9 and not one_way.back_ran and np.isnan(one_way.absolute)
    assert "not run" in list(views.symmetry_table(one_way.to_frame().T, plain).back)
    save_cell(results, PAIR[::-1], "verbosity", 1.2)
    both = extensions.symmetry("smoke", *PAIR, ["verbosity"]).iloc[0]
    assert both.back_ran and both.absolute == pytest.approx(0.3)
    assert both.difference.value == pytest.approx(-0.3)
    assert both.difference.high - both.difference.low == pytest.approx(0.2 * 2**0.5)


def test_the_notebook_declares_what_the_quick_profile_gives_it():
    declared = parameters_of(NOTEBOOKS / "08_extensions.ipynb")
    quick = load_profile("quick")
    given = quick.extensions_of(*quick.pairs[0]).model_dump()
    assert {k: declared[k] for k in given} == given
    assert declared["traits"] == list(quick.traits)


def test_sizes_are_the_first_pairs_alone_and_are_checked():
    paper = load_profile("paper")
    assert paper.extensions_of(*paper.pairs[0]).sizes == paper.extensions.sizes != []
    other = paper.extensions_of(*paper.pairs[1])
    assert (other.sizes, other.n_seeds) == ([], 0)
    again = Profile(**paper.model_dump(mode="json"))
    assert again.extensions == paper.extensions
    with pytest.raises(ConfigError, match="parameter 'sizes'.*rising order"):
        Extensions.checked({"sizes": [100, 50]})
    with pytest.raises(ConfigError, match="parameter 'temperature'"):
        Extensions.checked({"temperature": 0.0})


def test_how_two_traits_move_each_other_s_scores_is_averaged_over_the_pairs_that_have_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(spilled, "RESULTS", tmp_path)
    pairs = [["a", "b"], ["b", "a"], ["a", "c"], ["c", "a"]]
    for pair, cross in ((pairs[0], 0.5), (pairs[1], 1.0)):
        rows = [
            {"analysis": "spill", "method": "oracle", "trait": v, "measured_trait": m, "value": 2.0 * (1 if v == m else cross)}
            for v in ("x", "y") for m in ("x", "y")
        ]  # fmt: skip
        write_json(tmp_path / "p" / pair_name(*pair) / "results_08.json", rows)
    # one trait alone: sizes were compared, nothing was scored for another trait
    alone = [{"analysis": "size", "method": "oracle", "trait": "x", "value": 1.0}]
    write_json(tmp_path / "p" / pair_name(*pairs[2]) / "results_08.json", alone)
    assert spilled.between("p", pairs, "oracle", ("x", "y")).value == 0.75
    assert np.isnan(spilled.between("p", pairs, "ridge_concept", ("x", "y")).value)
