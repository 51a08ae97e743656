"""Hypothesis B: a planted rotation is found, and what chance gives is not taken for likeness."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from conftest import random_ids, tiny_model
from planted import LAYER, planted_study, planted_sweep, rotated_copy, scaled_copy
from prefvec.activations import Prompt, capture
from prefvec.adapters import make_adapter
from prefvec.diagnostics import basis, spaces
from prefvec.diagnostics.gains import Conclusion, Outcome, effects_of, hypothesis_record
from prefvec.errors import ConfigError
from prefvec.report import diagnostic_figures as drawn
from prefvec.report.run import Run
from prefvec.report.views import plain_value
from prefvec.stats import Estimate, mean_ci
from prefvec.transfer import ORACLE, Site
from prefvec.transfer.methods import MapFits, reference_directions, with_length

SITE = Site(LAYER, LAYER, 1.0)
STYLES = [f"s{i}" for i in range(20) for _ in range(6)]
ASKED = [f"q{j}" for _ in range(20) for j in range(6)]


def directions_of(study):
    """The directions that the verdict reads, and for the other methods of the table noise."""
    fit = MapFits(study, (LAYER, LAYER))
    vector, references = study.vector(study.source).at(LAYER), reference_directions(study, LAYER)
    fitted = {"ridge_concept": fit.concept, "shuffled_pairing": fit.shuffled}
    fitted |= {
        m: make_adapter(m).fit(fit.x, fit.y) for m in ("zero_pad", "interpolate", "procrustes")
    }
    fitted["cca"] = make_adapter("cca", penalty=0.1).fit(fit.x, fit.y)
    generator = np.random.default_rng(9)
    mapped = {m: generator.normal(size=fit.y.shape[1]) for m in basis.COMPARED}
    mapped |= {name: adapter.map(vector) for name, adapter in fitted.items()}
    length = np.linalg.norm(references[ORACLE])
    return references | {m: with_length(v, length) for m, v in mapped.items()}


def diagnose(study):
    directions = directions_of(study)
    cells = [("unsteered", None, LAYER, 0.0)]
    cells += [(m, v, LAYER, study.trait.sign * 1.0) for m, v in directions.items()]
    answers = planted_sweep(study, study.target, cells, "evaluation")
    found = basis.outcomes(study, answers, 1.0)
    effects = effects_of(study, answers, "evaluation")
    gains = basis.paired_gains(effects, 1.0, 0)
    return (
        directions,
        effects,
        found,
        basis.conclude(found, gains),
        basis.carrying_maps(found, gains),
    )


@pytest.fixture(scope="module")
def rotated():
    """Planted: the target is the source in another orthonormal basis."""
    source = tiny_model("llama")
    target, q = rotated_copy(source)
    return source, target, q, planted_study(source, target)


def test_a_rotated_copy_of_a_model_is_reported_as_a_rotated_basis(rotated):
    source, target, q, study = rotated
    prompts = [Prompt(ids) for ids in random_ids(6)]
    a, b = (capture(m, prompts, [LAYER])[LAYER] for m in (source, target))
    np.testing.assert_allclose(a @ q, b, rtol=1e-3, atol=1e-3)  # the plant is what it says
    directions, effects, found, conclusion, carried = diagnose(study)
    assert conclusion.verdict == "supported" and "procrustes" in carried, conclusion.reason
    assert "a rotation" in conclusion.reason
    assert found["procrustes"].share.value == pytest.approx(1.0, abs=0.1)
    assert not found["zero_pad"].works and not found["interpolate"].works
    cosines, shrinkage = basis.cosines_to_own(study, SITE, directions)
    at = cosines.set_index("method")
    assert (at.loc["procrustes", list(basis.COSINES)] > 0.99).all() and 0 <= shrinkage <= 1
    predicts = basis.cosine_predicts(study, cosines, effects, 1.0)
    assert predicts["cosine"].value > 0.5


def test_the_spaces_of_a_rotated_copy_agree_over_prompts_and_not_over_coordinates(rotated):
    found = basis.compare_spaces(rotated[3], SITE)
    assert found.cka.value == pytest.approx(1.0, abs=1e-3) and found.cka.p < 0.01
    assert found.cka.null_high < 0.5
    assert max(found.rows.degrees) < 3 and found.rows.overlap.p < 0.01
    assert found.coordinates.overlap.value < 0.6 and found.coordinates.overlap.p > 0.01
    assert found.shared.kept.all()
    parts = basis.shared_parts(rotated[3], SITE, found.shared).set_index("vector")
    assert parts.length["source"] == pytest.approx(parts.length[ORACLE], abs=0.02)
    assert (parts[["length", "whitened", "tried"]] <= 1 + 1e-6).all(axis=None)


def test_a_scaled_copy_of_a_model_is_not_reported_as_a_rotated_basis():
    """Planted: the target is the source with its residual stream 50 times as long. Directions all have the
    target's own length here, so the source's coordinates are right."""
    source = tiny_model("llama")
    study = planted_study(source, scaled_copy(source, 50.0))
    _, _, found, conclusion, _ = diagnose(study)
    assert conclusion.verdict == "rejected" and found["zero_pad"].works, conclusion.reason
    compared = basis.compare_spaces(study, SITE)
    assert max(compared.coordinates.degrees) < 3 and compared.coordinates.overlap.p < 0.01


def test_unrelated_models_share_nothing_and_carry_nothing():
    """Planted: activations of the target are noise, its own vector is some other direction."""
    source = tiny_model("llama")
    study = planted_study(source, scaled_copy(source, 1.0))
    generator = np.random.default_rng(3)
    study.alignment.target[LAYER] = generator.normal(size=(144, 32)).astype(np.float32)
    own = generator.normal(size=32).astype(np.float32)
    kept = study.vector
    study.vector = lambda m, trait=None: (
        kept(m, trait)
        if m.role == "source"
        else type(kept(m))(at=lambda _: own, norm=lambda _: 1.0)
    )
    compared = basis.compare_spaces(study, SITE)
    assert abs(compared.cka.value) < 0.1 and compared.shared.kept.sum() <= 1
    *_, conclusion, carried = diagnose(study)
    assert conclusion.verdict != "supported" and not carried


def outcome(gain, share, collapse=0.0):
    return Outcome(Estimate(*gain), Estimate(*share), collapse)


OWN = outcome((10, 8, 12), (1, 1, 1))
NOTHING = outcome((0, -1, 1), (0.0, -0.1, 0.1))
FULL = outcome((9, 7, 11), (0.9, 0.7, 1.1))
ABOVE, EVEN = Estimate(5, 3, 7), Estimate(0, -1, 1)


@pytest.mark.parametrize(
    ("raw", "procrustes", "ridge", "gain", "own", "verdict", "says"),
    [
        (NOTHING, FULL, FULL, ABOVE, OWN, "supported", "; a rotation"),
        (NOTHING, NOTHING, FULL, ABOVE, OWN, "supported", "no rotation"),
        (NOTHING, FULL, FULL, EVEN, OWN, "undecided", ""),  # a shuffled pairing does as much
        (NOTHING, NOTHING, NOTHING, EVEN, OWN, "rejected", ""),
        (FULL, FULL, FULL, EVEN, OWN, "rejected", "raw direction works"),
        (NOTHING, FULL, FULL, ABOVE, NOTHING, "undecided", "own vector's gain"),
    ],
)  # fmt: skip
def test_the_verdict_follows_its_rule(raw, procrustes, ridge, gain, own, verdict, says):
    found = {ORACLE: own, "zero_pad": raw, "interpolate": NOTHING, "procrustes": procrustes}
    found |= {"ridge_concept": ridge, "cca": NOTHING}
    gains = {m: dict.fromkeys((*basis.RAW, basis.CONTROL), gain) for m in basis.MAPS}
    conclusion = basis.conclude(found, gains)
    assert conclusion.verdict == verdict and says in conclusion.reason


def test_permutations_keep_styles_and_questions_whole():
    held_out = np.repeat(np.arange(20) < 7, 6)
    for order in spaces.crossed_orders(STYLES, ASKED, count=5, held_out=held_out):
        assert sorted(order) == list(range(120))
        new_styles, new_asked = np.array(STYLES)[order], np.array(ASKED)[order]
        assert all(len(set(new_styles[i : i + 6])) == 1 for i in range(0, 120, 6))
        assert all(len(set(new_asked[j::6])) == 1 for j in range(6))
        assert (held_out[order] == held_out).all()
    with pytest.raises(ConfigError, match="every style with every question"):
        spaces.crossed_orders(STYLES[:-1], ASKED[:-1])


def grid(seed):
    """Activations that depend on style and question: rows are not independent."""
    generator = np.random.default_rng(seed)
    parts = generator.normal(size=(20, 1, 30)) + generator.normal(size=(1, 6, 30))
    return (parts + 0.3 * generator.normal(size=(20, 6, 30))).reshape(120, 30)


def test_the_null_knows_that_rows_of_a_style_belong_together():
    """Two unrelated spaces with styles and questions in common: free permutations of the rows would call
    them alike, those of whole styles and questions do not."""
    x, y = grid(0), grid(1)
    whole = spaces.calibrated_cka(x, y, spaces.crossed_orders(STYLES, ASKED))
    free = [np.random.default_rng(i).permutation(120) for i in range(200)]
    assert spaces.calibrated_cka(x, y, free).p < 0.01
    assert whole.p > 0.05 and abs(whole.value - whole.null_mean) < 0.1


def test_canonical_directions_are_those_that_were_planted():
    """Planted: two dimensions of the source show in the target, the others are noise of their own."""
    generator = np.random.default_rng(2)
    x, y = 0.5 * grid(0), 0.5 * grid(1)
    signal = 6 * generator.normal(size=(120, 2))
    x[:, :2] += signal
    y += signal @ ortho_group.rvs(30, random_state=0)[:2]
    found = spaces.shared_directions(x, y, STYLES, ASKED)
    assert found.kept.sum() == 2 and (found.correlations[found.kept] > 0.9).all()
    loadings = found.source[1][:, found.kept]
    assert spaces.share_of_length(np.eye(30)[0], loadings) > 0.9
    assert spaces.share_of_length(np.eye(30)[7], loadings) < 0.1
    assert spaces.share_of_length(np.eye(30)[7], loadings[:, :0]) == 0.0


def test_whitening_takes_scale_and_correlation_out_and_keeps_read_outs():
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(6, 6)) * np.array([1, 1, 1, 1, 1, 500.0])
    rows = generator.normal(size=(5000, 6)) @ mix
    whiten = spaces.Whitener(rows)
    np.testing.assert_allclose(np.cov(whiten(rows).T), np.eye(6), atol=0.05)
    read, vector = generator.normal(size=(6, 2)), generator.normal(size=6)
    np.testing.assert_allclose(whiten.weights(read).T @ whiten(vector), read.T @ vector)


def test_the_rank_correlation_is_spearmans_and_knows_few_methods():
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    likeness = generator.normal(size=14)
    effects = likeness[:, None] ** 3 + generator.normal(size=(14, 20))
    found = basis.rank_correlation(likeness, effects)
    assert found.value == pytest.approx(spearmanr(likeness, effects.mean(axis=1)).statistic)
    assert 0 < found.low < found.value < found.high <= 1
    noise = basis.rank_correlation(likeness, generator.normal(size=(14, 20)))
    assert noise.low < 0 < noise.high
    assert np.isnan(basis.rank_correlation(likeness, np.ones((14, 20))).value)


def test_stages_with_a_letter_have_files_of_their_own(tmp_path, monkeypatch, rotated):
    from prefvec.report import run as module
    from prefvec.store import read_json

    monkeypatch.setattr(module, "run_dir", lambda *parts: tmp_path)
    monkeypatch.setattr(module, "FIGURES", tmp_path)
    study = planted_study(*rotated[:2])
    study.settings.source, study.settings.target, study.split_hashes = "org/a", "b", {}
    study.task = type("Task", (), {"name": "answer"})
    run = Run("05a_magnitude", "p")
    conclusion = Conclusion("rejected", "too little", "by its interval")
    found = {"share": Estimate(1.0, np.nan, 2.0), "kept": np.array([True])}
    record = hypothesis_record(study, SITE, "It is the scale.", conclusion, **found)
    path = run.hypothesis("a", study, record)
    assert path.name == "hypothesis_a_org_a_to_b_verbosity.json"
    saved = read_json(path)
    assert saved["measurements"] == {"share": [1.0, None, 2.0], "kept": [True]}
    assert saved["conclusion"] == conclusion._asdict() and saved["site"] == SITE._asdict()
    assert saved["hypothesis"] == "A" and saved["unit"] and saved["statement"].startswith("It is")
    run.close(records=[])
    assert (tmp_path / "manifest_05a.json").exists() and (tmp_path / "results_05a.json").exists()
    assert plain_value({"a": (1, float("inf"))}) == {"a": [1, None]}


def test_the_figures_show_both_spaces_and_every_cosine(rotated):
    study = rotated[3]
    figure = drawn.shared_space(basis.compare_spaces(study, SITE), "t")
    assert "CKA 1.00" in figure.axes[0].get_title()
    directions, effects, *_ = diagnose(study)
    cosines, _ = basis.cosines_to_own(study, SITE, directions)
    cosines["effect"] = [mean_ci(effects[m, 1.0]) for m in cosines.method]
    predicts = basis.cosine_predicts(study, cosines, effects, 1.0)
    axes = drawn.cosine_against_effect(cosines, predicts, "tokens", "t").axes
    assert [a.get_xlabel() for a in axes] == [f"cosine, {t}" for t in drawn.KINDS.values()]
