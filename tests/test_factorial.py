"""The attribution of a loss names its planted cause: a length, a direction, a layer, or several."""

import copy
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ortho_group
from transformers import AutoModelForCausalLM

from conftest import random_ids, tiny_model
from prefvec.activations import Prompt, capture
from prefvec.diagnostics import factorial
from prefvec.diagnostics.factorial import (
    CELLS,
    FACTORS,
    ORACLE_CELL,
    attribute,
    beyond_random,
    random_swaps,
    shapley,
    swapped,
)
from prefvec.models.hooks import find_hook_points
from prefvec.models.load import LoadedModel
from prefvec.steering import RowSteering, Steer
from prefvec.transfer.sweep import Site
from prefvec.vectors import difference_in_means

N = 40


def effects_of(function, noise: float = 1.0) -> dict:
    """Effects `[N]` by cell from a function of the three swaps, with noise that questions share and noise
    of their own."""
    generator = np.random.default_rng(0)
    ease = generator.uniform(0.5, 1.5, N)
    return {cell: 20 * ease * function(*cell) + noise * generator.normal(size=N) for cell in CELLS}


def steered(length: float, cosine: float, blocks_off: int) -> float:
    """A made-up dose response: saturates in length, linear in cosine, and only near the right layer."""
    return np.tanh(2 * length) * cosine * (blocks_off == 0)


@pytest.mark.parametrize(
    ("cause", "function"),
    [
        ("norm", lambda n, d, at: steered(1.0 if n else 0.02, 1.0, 0)),
        ("direction", lambda n, d, at: steered(1.0, 1.0 if d else 0.0, 0)),
        ("layer", lambda n, d, at: steered(1.0, 1.0, 0 if at else 3)),
    ],
)
def test_a_single_planted_cause_has_the_whole_share(cause, function):
    found = attribute(effects_of(function))
    assert found.main == cause
    assert found.shares[cause].value >= 0.9 and found.shares[cause].low > 0.8
    for other in set(FACTORS) - {cause}:
        assert abs(found.shares[other].value) < 0.1 and found.shares[other].low < 0


def test_shares_sum_to_one_and_equal_the_mean_over_orders_of_swapping():
    generator = np.random.default_rng(1)
    effects = {cell: generator.normal(size=N) + 3 * sum(cell) for cell in CELLS}
    expected = dict.fromkeys(FACTORS, 0.0)
    orders = list(permutations(range(3)))
    for order in orders:
        cell = [0, 0, 0]
        for i in order:
            before = effects[tuple(cell)]
            cell[i] = 1
            expected[FACTORS[i]] = expected[FACTORS[i]] + (effects[tuple(cell)] - before) / len(orders)  # fmt: skip
    for factor, values in shapley(effects).items():
        np.testing.assert_allclose(values, expected[factor])
    shares = attribute(effects).shares
    assert sum(share.value for share in shares.values()) == pytest.approx(1.0)
    assert all(share.low < share.value < share.high for share in shares.values())


def test_causes_that_only_work_together_share_alike_and_neither_works_alone():
    found = attribute(effects_of(lambda n, d, at: n * d, noise=0.2))
    for factor in ("norm", "direction"):
        assert found.shares[factor].value == pytest.approx(0.5, abs=0.05)
        assert abs(found.first[factor].value) < 1 and found.last[factor].low > 15
    assert abs(found.shares["layer"].value) < 0.05


def test_without_a_loss_beyond_doubt_there_are_no_shares():
    found = attribute(effects_of(lambda n, d, at: 1.0, noise=5.0))
    assert not found.loss.low > 0 and found.main == "" and "reaches 0" in found.reason
    assert all(np.isnan(share.value) for share in found.shares.values())
    assert found.as_record()["shares"]["norm"] == [None, None, None]
    gained = attribute(effects_of(lambda n, d, at: 1.0 - n))  # the oracle is worse than direct
    assert gained.loss.high < 0 and np.isnan(gained.shares["norm"].value)


def test_what_a_random_push_of_that_length_does_is_not_the_length_s_share():
    raw = effects_of(lambda n, d, at: n, noise=0.5)  # any vector of that length has the effect …
    noise = effects_of(lambda n, d, at: n, noise=0.5)
    assert attribute(raw).main == "norm"
    assert attribute(beyond_random(raw, noise)).reason  # … so beyond random there is no loss


# --- a tiny model against itself, rescaled, rotated or moved ---


def scaled(model: torch.nn.Module, factor: float) -> torch.nn.Module:
    """The same model with a residual stream `factor` times as long: RMS norms undo it."""
    model = copy.deepcopy(model)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight *= factor
        layer.mlp.down_proj.weight *= factor
    model.model.embed_tokens.weight *= factor
    return model


def rotated(model: torch.nn.Module) -> torch.nn.Module:
    """The same model in another orthonormal basis of its residual stream (RMS norms of weight 1)."""
    model = copy.deepcopy(model)
    q = torch.tensor(ortho_group.rvs(model.config.hidden_size, random_state=0), dtype=torch.float32)
    for layer in model.model.layers:
        for part in ("q_proj", "k_proj", "v_proj"):
            weight = getattr(layer.self_attn, part).weight
            weight.copy_(weight @ q)
        for part in ("gate_proj", "up_proj"):
            weight = getattr(layer.mlp, part).weight
            weight.copy_(weight @ q)
        for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
            weight.copy_(q.T @ weight)
    model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight @ q)
    model.lm_head.weight.copy_(model.lm_head.weight @ q)
    return model


def moved(model: torch.nn.Module, blocks: int) -> torch.nn.Module:
    """The same model behind blocks that change nothing."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers += blocks
    config.layer_types = None
    deeper = AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
    state = {
        k: v for k, v in model.state_dict().items() if not k.startswith("model.layers.")
    } | {
        f"model.layers.{int(k.split('.')[2]) + blocks}.{k.split('.', 3)[3]}": v
        for k, v in model.state_dict().items()
        if k.startswith("model.layers.")
    }  # fmt: skip
    deeper.load_state_dict(state, strict=False)
    for layer in deeper.model.layers[:blocks]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    return deeper


def next_logits(loaded: LoadedModel, rows: list, steers: tuple = ()) -> np.ndarray:
    """Logits of the next token `[n, vocabulary]` after each row, steered."""
    out = []
    for ids in rows:
        tokens = torch.tensor([ids])
        with RowSteering(loaded, [steers]) as steering, torch.inference_mode():
            steering.begin_prompt(torch.ones_like(tokens))
            out.append(loaded.model(input_ids=tokens).logits[0, -1].numpy())
    return np.array(out)


def tiny_study(source: LoadedModel, target: LoadedModel) -> SimpleNamespace:
    """What `swapped` asks of a study; the trait is a difference between random prompts."""
    poles = [random_ids(30, seed=seed) for seed in (1, 2)]
    prompts = [Prompt((*ids, 7, 8, 9)) for pole in poles for ids in pole]

    def vector(loaded: LoadedModel) -> SimpleNamespace:
        found = capture(loaded, prompts, range(loaded.n_layers))
        directions = {k: difference_in_means(a[:30], a[30:]) for k, a in found.items()}
        return SimpleNamespace(
            at=directions.__getitem__, norm=lambda k: float(np.linalg.norm(directions[k]))
        )

    settings = SimpleNamespace(seed=0, n_random=1)
    return SimpleNamespace(source=source, target=target, vector=vector, settings=settings)


def swap_effects(source: LoadedModel, model: torch.nn.Module, best: int) -> dict:
    """Effects `[n]` by cell in a target that computes the same function as its source, source layer 1
    assumed to be target layer 1: how far the next token's logits go the oracle's way."""
    target = replace(source, model=model, hooks=find_hook_points(model), fingerprint="target")
    rows = random_ids(12, seed=3)
    base = next_logits(target, rows)
    np.testing.assert_allclose(base, next_logits(source, rows), atol=2e-3)
    written = swapped(tiny_study(source, target), Site(1, 1, 1.0), best)

    def change_of(cell) -> np.ndarray:
        steer = Steer(np.float32(written[cell].vector), written[cell].layer, 4.0)
        return next_logits(target, rows, (steer,)) - base

    own = change_of(ORACLE_CELL)
    return {c: (change_of(c) * own).sum(axis=1) / np.square(own).sum(axis=1) for c in CELLS}


@pytest.mark.parametrize(
    ("cause", "change"), [("norm", lambda model: scaled(model, 20.0)), ("direction", rotated)]
)
def test_a_target_made_from_the_source_is_named_by_how_it_was_made(cause, change):
    source = tiny_model("llama")
    effects = swap_effects(source, change(source.model), best=1)
    found = attribute(effects)
    assert found.loss.value > 0.5
    assert found.main == cause and found.shares[cause].value >= 0.9
    alone = tuple(int(factor == cause) for factor in FACTORS)
    np.testing.assert_allclose(effects[alone], 1.0, atol=5e-3)  # that swap is all it takes


def test_behind_blocks_that_change_nothing_the_layer_is_all_that_has_to_be_swapped():
    source = tiny_model("llama")
    effects = swap_effects(source, moved(source.model, 2), best=3)
    np.testing.assert_allclose(effects[0, 0, 1], 1.0, atol=5e-3)
    # At the assumed layer the prompts' last tokens are still alike: there is no own vector to swap in.
    for cell in ((1, 0, 0), (0, 1, 0), (1, 1, 0)):
        np.testing.assert_allclose(effects[cell], 0.0, atol=1e-6)


def test_a_random_swap_has_the_length_and_the_layer_of_the_cell_that_it_stands_for():
    source = tiny_model("llama")
    study = tiny_study(source, tiny_model("qwen2", seed=1))
    cells = swapped(study, Site(1, 2, 1.0), 3)
    noise = random_swaps(study, Site(1, 2, 1.0), 3)
    own = study.vector(study.target)
    for cell in CELLS:
        at = 3 if cell[2] else 2
        assert cells[cell].layer == noise[cell].layer == at
        lengths = [np.linalg.norm(found[cell].vector) for found in (cells, noise)]
        expected = own.norm(at) if cell[0] else study.vector(source).norm(1)
        assert lengths == pytest.approx([expected] * 2, rel=1e-5)
        assert abs(noise[cell].vector @ own.at(at)) < 0.6 * lengths[0] * own.norm(at)


def test_effects_come_from_the_answers_by_cell_and_a_collapsed_answer_has_none():
    questions = ["q1", "q2"]
    study = SimpleNamespace(
        trait=SimpleNamespace(sign=-1), splits={"evaluation": questions}, settings=SimpleNamespace(seed=0)
    )  # fmt: skip
    rows = [("unsteered", -1, q, 50.0, False) for q in questions]
    for i, cell in enumerate(CELLS):
        name = "cell_" + "".join(map(str, cell))
        rows += [(name, 4, q, 50.0 - i, False) for q in questions]
    for norm, layer in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows += [(f"random_{norm}{layer}", 4, q, 0.0, True) for q in questions]
    answers = pd.DataFrame(rows, columns=["method", "layer", "question", "score", "collapsed"])
    effects, noise = factorial.cell_effects(study, answers)
    assert [effects[cell].tolist() for cell in CELLS] == [[i, i] for i in range(8)]
    assert all((noise[cell] == 0).all() for cell in CELLS)
