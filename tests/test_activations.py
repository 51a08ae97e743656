"""Capture: the right layer, whatever the batch, the padding or the shared beginnings."""

import numpy as np
import pytest
import torch

from conftest import random_ids
from prefvec import activations, batching
from prefvec.activations import Prompt, Site, capture, capture_sites
from prefvec.errors import ConfigError, ModelError


def hidden_states(loaded, ids):
    """Block outputs by transformers' own means, one prompt at a time. The last entry of
    `hidden_states` is after the final norm, so the last block is read as the norm's input."""
    with torch.inference_mode():
        out = loaded.model(torch.tensor([ids]), output_hidden_states=True)
    return [h[0].numpy() for h in out.hidden_states]


def test_layer_i_is_the_output_of_block_i(tiny):
    ids = random_ids(1)[0]
    got = capture(tiny, [Prompt(ids)], [0, 1, 2])
    want = hidden_states(tiny, ids)
    for layer in (0, 1, 2):
        np.testing.assert_allclose(got[layer][0], want[layer + 1][-1], rtol=2e-4, atol=2e-4)


def test_left_padding_and_order_change_nothing(tiny):
    prompts = [Prompt(ids) for ids in random_ids(6)]
    together = capture(tiny, prompts, [2])[2]
    alone = np.concatenate([capture(tiny, [p], [2])[2] for p in prompts])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_a_shared_beginning_changes_nothing(tiny, monkeypatch):
    start = random_ids(1, low=12, high=13)[0]
    prompts = [Prompt(start + ids) for ids in random_ids(5, seed=1)] + [
        Prompt(random_ids(1, seed=2)[0])
    ]
    rows = [p.ids for p in prompts]
    may_share = batching.fits_window(tiny, 2 * max(map(len, rows)))
    assert may_share == (tiny.fingerprint != "gemma30")  # its local attention counts padding
    assert any(g.shared for g in batching.shared_beginnings(rows, may_share)) == may_share
    shared = capture(tiny, prompts, [1, 3])
    monkeypatch.setattr(batching, "MIN_SHARED", 10**6)
    apart = capture(tiny, prompts, [1, 3])
    for layer in (1, 3):
        np.testing.assert_allclose(shared[layer], apart[layer], rtol=1e-3, atol=1e-3)


def test_mean_pooling_takes_the_answer_and_leaves_out_the_first_token(llama):
    ids = random_ids(1, low=9, high=10)[0]
    states = hidden_states(llama, ids)[2]
    answer = capture(llama, [Prompt(ids, answer_start=4)], [1], pooling="mean")[1][0]
    whole = capture(llama, [Prompt(ids)], [1], pooling="mean")[1][0]
    np.testing.assert_allclose(answer, states[4:].mean(axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(whole, states[1:].mean(axis=0), rtol=1e-3, atol=1e-4)


def test_nothing_after_the_deepest_layer_is_computed(llama):
    ran = []
    for i, block in enumerate(llama.hooks.blocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    capture(llama, [Prompt((1, 2, 3))], [1])
    assert max(ran) <= 1


def test_attention_and_mlp_outputs_add_up_to_the_block(llama):
    ids = random_ids(1)[0]
    parts = [capture(llama, [Prompt(ids)], [1], component=c)[1] for c in ("attention", "mlp")]
    residual = capture(llama, [Prompt(ids)], [0, 1])
    np.testing.assert_allclose(residual[0] + sum(parts), residual[1], rtol=1e-3, atol=1e-4)


def test_the_store_gives_back_the_same_and_notices_damage(llama, store):
    prompts = [Prompt(ids) for ids in random_ids(3)]
    first = capture(llama, prompts, [1], store=store)[1]
    [path] = (store.root / "activations").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    again = capture(llama, prompts, [1], store=store)[1]
    np.testing.assert_array_equal(first, again)


def test_sites_of_several_components_come_from_one_pass(tiny):
    prompts = [Prompt(ids) for ids in random_ids(3)]
    sites = [Site(1, "attention"), Site(2), Site(1), Site(2, "mlp")]
    assert tiny.hooks.sublayers  # found by a pass of their own, once
    calls = []
    tiny.hooks.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    together = capture_sites(tiny, prompts, sites)
    assert len(calls) == 1 and set(together) == set(sites)
    for site in sites:
        alone = capture(tiny, prompts, [site.layer], component=site.component)[site.layer]
        np.testing.assert_allclose(together[site], alone, rtol=1e-4, atol=1e-4)


def test_only_what_the_store_does_not_know_is_computed(llama, store):
    prompts = [Prompt(ids) for ids in random_ids(4)]
    capture(llama, prompts, [0, 3], store=store)
    ran = []
    for i, block in enumerate(llama.hooks.blocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    capture(llama, prompts, [3], store=store)
    assert ran == []
    capture(llama, prompts, [0, 1, 3], store=store)
    assert max(ran) == 1


def test_an_interrupted_capture_goes_on_where_it_was(llama, store, monkeypatch):
    monkeypatch.setattr(activations, "SHARD", 2)
    prompts = [Prompt(ids) for ids in random_ids(5)]
    whole = capture(llama, prompts, [1])[1]
    real, calls = activations._captured, []

    def failing(loaded, shard, *rest):
        calls.append(len(shard))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(loaded, shard, *rest)

    monkeypatch.setattr(activations, "_captured", failing)
    with pytest.raises(KeyboardInterrupt):
        capture(llama, prompts, [1], store=store)
    np.testing.assert_allclose(capture(llama, prompts, [1], store=store)[1], whole, rtol=1e-4)
    assert calls == [2, 2, 2, 1]


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_out_of_range_is_refused_by_number(llama, layer):
    with pytest.raises(ConfigError, match=rf"layer {layer} is out of range.*0 … 3"):
        capture(llama, [Prompt((1, 2))], [layer])


def test_an_unknown_component_is_refused(llama):
    with pytest.raises(ModelError, match="component 'heads' is unknown"):
        capture(llama, [Prompt((1, 2))], [0], component="heads")
