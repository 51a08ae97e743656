"""Components, stages and spread doses: read and written where they say, chosen on the selection split."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from conftest import random_ids, tiny_model
from prefvec.activations import Prompt, capture_sites
from prefvec.diagnostics import components
from prefvec.diagnostics.components import (
    MAIN,
    SPREAD,
    at_doses,
    chosen_doses,
    component_frame,
    component_steers,
    dose_cells,
    neighbours,
    places,
    spots,
    with_controls,
)
from prefvec.diagnostics.layers import Grid
from prefvec.report import layer_figures
from prefvec.report.views import plain
from prefvec.steering import Steer
from prefvec.transfer.sweep import Site

SITE, GRID = Site(1, 1, 1.0), Grid((0, 1, 3), (0, 1, 3))


@pytest.fixture
def study(monkeypatch, store) -> SimpleNamespace:
    """A model that is its own source and target; its trait is a difference between random prompts."""
    loaded = tiny_model("llama")
    poles = [[Prompt((*ids, 7, 8)) for ids in random_ids(20, seed=s)] for s in (1, 2)]
    monkeypatch.setattr(components, "contrast_prompts", lambda *_: tuple(poles))

    def vector(_):
        wanted = components.Place
        sites = [wanted(layer) for layer in range(4)]
        found = capture_sites(loaded, [*poles[0], *poles[1]], sites)
        own = {s.layer: components.difference_in_means(a[:20], a[20:]) for s, a in found.items()}
        return SimpleNamespace(at=own.__getitem__, norm=lambda k: float(np.linalg.norm(own[k])))

    return SimpleNamespace(
        source=loaded, target=loaded, vector=vector, store=store,
        splits={"extraction": [], "alignment": range(6)},
        styles=[SimpleNamespace(id=str(i)) for i in range(20)],
        trait=SimpleNamespace(name="t", sign=-1),
        settings=SimpleNamespace(seed=0, n_instructions=1, penalties=[1e-6, 1e-4]),
    )  # fmt: skip


@pytest.fixture
def steers(study):
    prompts = [Prompt(ids) for ids in random_ids(120, seed=9)]
    wanted = places(study, SITE, GRID)
    rows = tuple(capture_sites(study.target, prompts, sites) for sites in wanted)
    study.store = SimpleNamespace(  # a λ path that is not looked at again
        json=lambda _kind, _key, compute: compute(), peek_arrays=lambda *_: None,
        put_arrays=lambda *_: None,
    )  # fmt: skip
    return component_steers(study, SITE, GRID, rows)


def test_spots_are_the_components_in_the_middle_and_the_stages_of_the_residual_stream(study):
    names = [spot.name for spot in spots(study, SITE, GRID)]
    assert names == [
        "residual early", "residual middle", "attention middle", "mlp middle", "residual late"
    ]  # fmt: skip
    assert neighbours(study, SITE) == [(0, 0), (1, 1), (2, 2)]
    assert neighbours(study, Site(0, 3, 1.0)) == [(0, 3), (1, 4)][:1]
    hidden = SimpleNamespace(hooks=SimpleNamespace(components=("residual", "mlp")))
    only = SimpleNamespace(source=hidden, target=study.target)
    assert "attention middle" not in [spot.name for spot in spots(only, SITE, GRID)]


def test_every_direction_is_written_at_its_component_at_the_residual_vector_s_length(study, steers):
    found, described = steers
    own = study.vector(study.target)
    for (_, where), additions in found.items():
        if where == SPREAD:
            assert [s.layer for s in additions] == [0, 1, 2]
            assert sum(s.coefficient for s in additions) == pytest.approx(1.0)
        else:
            [steer] = additions
            assert steer.component == where.split()[0] and steer.coefficient == 1.0
        for steer in additions:
            assert np.linalg.norm(steer.vector) == pytest.approx(own.norm(steer.layer), rel=1e-4)
    # Between a model and itself a map with a small penalty is the identity.
    assert (described.cosine_mapped > 0.97).all()
    for where in ("attention middle", "mlp middle", MAIN):
        (mine,), (carried,) = found["own", where], found["mapped", where]
        lengths = np.linalg.norm(mine.vector) * np.linalg.norm(carried.vector)
        assert mine.vector @ carried.vector / lengths > 0.97
    (residual,), (attention,) = found["own", MAIN], found["own", "attention middle"]
    assert not np.allclose(residual.vector, attention.vector, rtol=0.1)


def test_conditions_multiply_every_part_by_the_signed_dose(study):
    vector = np.ones(32, np.float32)
    parts = tuple(Steer(vector, layer, 0.5, component="mlp") for layer in (1, 2))
    found = at_doses(study, {("own", SPREAD): parts}, {("own", SPREAD): [2.0]})
    assert found["unsteered"] == ()
    steered = found["own|residual spread|2"]
    assert [(s.layer, s.coefficient, s.component) for s in steered] == [(1, -1.0, "mlp"), (2, -1.0, "mlp")]  # fmt: skip


def table(effects: dict[str, float], collapsed=()) -> pd.DataFrame:
    rows = [("unsteered", 0, f"q{i}", 50.0 + i, False) for i in range(8)]
    rows += [
        (name, 0, f"q{i}", 50.0 + i - effect, name in collapsed)
        for name, effect in effects.items()
        for i in range(8)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "question", "score", "collapsed"])


def test_the_dose_is_chosen_by_the_effect_beyond_random_and_reported_against_one_layer(study):
    tried = {
        f"own|{MAIN}|1": 10.0, f"random|{MAIN}|1": 0.0, f"own|{MAIN}|2": 40.0, f"random|{MAIN}|2": 35.0,
        f"own|{SPREAD}|1": 6.0, f"random|{SPREAD}|1": 0.0, f"own|{SPREAD}|2": 30.0, f"random|{SPREAD}|2": 0.0,
    }  # fmt: skip
    cells = dose_cells(table(tried), study.trait.sign)
    doses = chosen_doses(cells)
    assert doses == {("own", MAIN): 1.0, ("own", SPREAD): 2.0}
    spoilt = dose_cells(table(tried, collapsed={f"own|{SPREAD}|2"}), study.trait.sign)
    assert chosen_doses(spoilt)["own", SPREAD] == 1.0
    assert with_controls(doses) == {
        ("own", MAIN): [1.0], ("own", SPREAD): [2.0],
        ("random", MAIN): [1.0], ("random", SPREAD): [2.0],
    }  # fmt: skip
    frame = component_frame(study, table(tried), doses).set_index("where")
    assert frame.specific[SPREAD].value == pytest.approx(30.0)
    assert frame.gain[SPREAD].value == pytest.approx(20.0) and frame.gain[MAIN].value == 0
    shown = layer_figures.component_table(frame.reset_index(), plain)
    assert list(shown["where"]) == ["residual, middle", "residual, three layers"]
    plt.close(layer_figures.component_figure(frame.reset_index(), "tokens", "t"))
