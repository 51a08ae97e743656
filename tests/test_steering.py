"""Steering: exactly h + α·v, exactly where it was asked for."""

import numpy as np
import pytest
import torch

from conftest import random_ids
from prefvec.batching import pad_left
from prefvec.errors import ConfigError, VectorError
from prefvec.steering import RowSteering, Steer


def vector(loaded, seed=0, size=1.0):
    values = np.random.default_rng(seed).normal(size=loaded.width)
    return np.float32(size * values)


def logits(loaded, rows, steers=None):
    """Logits [rows, tokens, vocabulary] of one pass over left-padded prompts."""
    ids, mask, positions = pad_left(rows, 0, loaded.device)
    with torch.inference_mode(), RowSteering(loaded, steers or [()] * len(rows)) as steering:
        steering.begin_prompt(mask)
        return loaded.model(ids, attention_mask=mask, position_ids=positions).logits


def test_zero_dose_is_bit_identical_to_no_hook(tiny):
    rows = random_ids(3)
    plain = logits(tiny, rows)
    steered = logits(tiny, rows, [(Steer(vector(tiny), 1, 0.0),)] * 3)
    assert torch.equal(plain, steered)


def test_an_unsteered_row_is_bit_identical_beside_steered_ones(tiny):
    rows = random_ids(3)
    plain = logits(tiny, rows)
    steered = logits(tiny, rows, [(), (Steer(vector(tiny), 1, 2.0),), ()])
    assert torch.equal(plain[[0, 2]], steered[[0, 2]])
    assert not torch.allclose(plain[1], steered[1])


def test_a_vector_and_its_negative_cancel(tiny):
    rows = random_ids(2)
    v = vector(tiny)
    both = logits(tiny, rows, [(Steer(v, 1, 1.5), Steer(v, 1, -1.5))] * 2)
    torch.testing.assert_close(logits(tiny, rows), both, rtol=1e-4, atol=1e-4)


def test_two_vectors_add_up_to_their_sum(tiny):
    rows = random_ids(2)
    a, b = vector(tiny, 1), vector(tiny, 2)
    apart = logits(tiny, rows, [(Steer(a, 2, 1.0), Steer(b, 2, -0.5))] * 2)
    summed = logits(tiny, rows, [(Steer(a - 0.5 * b, 2, 1.0),)] * 2)
    torch.testing.assert_close(apart, summed, rtol=1e-3, atol=1e-3)


def test_the_hook_adds_exactly_the_vector_to_the_block_output(llama):
    ids = random_ids(1)[0]
    v, alpha, layer = vector(llama), 1.7, 1
    with torch.inference_mode():
        plain = llama.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1]
    want = plain.clone()
    want[:, 1:] += alpha * torch.tensor(v)  # the first token is never steered
    seen = []
    handle = llama.hooks.blocks[layer + 1].register_forward_pre_hook(
        lambda _m, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    logits(llama, [ids], [(Steer(v, layer, alpha),)])
    handle.remove()
    torch.testing.assert_close(seen[0], want, rtol=1e-5, atol=1e-5)


def test_positions_with_the_cache_on(llama):
    """`prompt` changes the prompt's pass only, `generated` the later passes only, `all` both."""
    from transformers import DynamicCache

    ids = torch.tensor([random_ids(1)[0]])
    seen = []
    handle = llama.hooks.blocks[2].register_forward_pre_hook(
        lambda _m, args, kwargs: seen.append(
            (args[0] if args else kwargs["hidden_states"]).clone()
        ),
        with_kwargs=True,
    )

    def passes(steers):
        seen.clear()
        cache = DynamicCache(config=llama.model.config)
        with torch.inference_mode(), RowSteering(llama, [steers]) as steering:
            steering.begin_prompt(torch.ones_like(ids))
            llama.model(ids, past_key_values=cache, use_cache=True)
            steering.begin_token(1)
            llama.model(torch.tensor([[7]]), past_key_values=cache, use_cache=True)
        return list(seen)

    v = vector(llama)
    plain = passes(())
    delta = torch.tensor(v).expand_as(plain[0]).clone()
    delta[:, 0] = 0
    # Block 1's own output is what is read here, and it does not depend on what was added to it.
    for where, prompt, token in (("prompt", 1, 0), ("generated", 0, 1), ("all", 1, 1)):
        got = passes((Steer(v, 1, 1.0, where),))
        torch.testing.assert_close(got[0], plain[0] + prompt * delta, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got[1], plain[1] + token * torch.tensor(v), rtol=1e-5, atol=1e-5)
    handle.remove()


def test_hooks_are_removed_even_after_an_error(llama):
    with pytest.raises(RuntimeError), RowSteering(llama, [(Steer(vector(llama), 0, 1.0),)]):
        raise RuntimeError
    assert not any(block._forward_hooks for block in llama.hooks.blocks)


def test_a_vector_of_the_wrong_width_is_refused(llama):
    with pytest.raises(VectorError, match="32 wide: map it with an adapter"):
        RowSteering(llama, [(Steer(np.ones(33, np.float32), 0, 1.0),)])


def test_unknown_positions_and_non_finite_vectors_are_refused(llama):
    with pytest.raises(ConfigError, match="positions 'answer' is unknown"):
        Steer(vector(llama), 0, 1.0, "answer")
    with pytest.raises(VectorError, match="not finite"):
        Steer(vector(llama) * np.nan, 0, 1.0)
