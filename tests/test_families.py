"""Every decoder family: read, steered, decoded and scored as plain transformers does, or refused."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from conftest import random_ids
from prefvec import abilities, screen
from prefvec.activations import Prompt, capture
from prefvec.batching import fits_window
from prefvec.errors import ConfigError, ModelError
from prefvec.families import families, tiny_config, tiny_model
from prefvec.generation import Request, generate
from prefvec.metrics.likelihood import Row, log_likelihoods, may_branch
from prefvec.models.hooks import find_hook_points
from prefvec.models.registry import HookPaths
from prefvec.steering import Steer

REFUSED = {"deepseek_v4", "gemma3n_text", "xlm"}  # several streams, or no list of whole blocks
ALONE = {"falcon_mamba", "mamba", "mamba2", "minimax", "openai-gpt", "recurrent_gemma", "rwkv"}
PADDED = {  # recurrent beside attention, positions from slots, or a window of 16 tokens
    "bamba", "falcon_h1", "granitemoehybrid", "jamba", "lfm2", "nemotron_h", "qwen3_next", "qwen3_5_text", "zamba", "zamba2",
    "mpt", "doge", "gpt_neo", "afmoe", "cohere2", "cwm", "exaone4", "gemma2", "gemma3_text", "gpt_oss", "llama4_text",
    "ministral", "mistral", "mixtral", "modernbert-decoder", "olmo3", "phi3", "phimoe", "starcoder2", "vaultgemma",
}  # fmt: skip
SHARED_WITHOUT_TREE = {"bloom", "falcon-alibi"}  # their ALiBi is made from the mask of slots
WINDOW_UNUSED = {"moshi"}  # of 16 tokens: in the configuration, but not in the mask
NORMED = {"afmoe", "exaone4", "flex_olmo", "gemma2", "gemma3_text", "glm4", "olmo2", "olmo3"}
NO_SUBLAYERS = {"falcon_h1", "granitemoehybrid", "minimax", "openai-gpt"}  # not a sum of two


def tiny(family, **kwargs):
    return tiny_model(tiny_config(family), family, **kwargs)


def test_the_screen_has_many_families():
    assert len(families()) >= 80 and set(families()) >= REFUSED | ALONE | PADDED
    with pytest.raises(ConfigError, match="unknown family 'lama'"):
        tiny_config("lama")


@pytest.mark.parametrize("family", [f for f in families() if f not in REFUSED])
def test_a_family_is_read_steered_decoded_and_scored_as_by_plain_transformers(family):
    found = screen.screen(tiny(family))
    assert found.passed, found
    assert found.rows == (
        "alone" if family in ALONE else "padded" if family in PADDED else "shared"
    )
    if found.rows == "shared":
        assert found.tree == (family not in SHARED_WITHOUT_TREE | WINDOW_UNUSED)
    else:
        assert not found.tree
    assert ("normed" in found.sum) == (family in NORMED)
    assert (found.attention == "none") == (family in NO_SUBLAYERS)
    assert (found.adds is None) == (family in NORMED | NO_SUBLAYERS | {"granite"})


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_a_family_without_one_stream_is_refused_with_its_modules_and_the_override(family):
    with pytest.raises(
        ModelError, match=r"its modules are .*; say which it is in data/models.yaml"
    ) as e:
        tiny(family)
    assert "\n" not in str(e.value) and len(str(e.value)) < 700


def test_the_screen_finds_what_is_broken(monkeypatch):
    loaded = tiny("llama")
    blocks = loaded.hooks.blocks
    moved = replace(loaded, hooks=replace(loaded.hooks, blocks=(blocks[1], blocks[0], blocks[2])))
    assert not screen.screen(moved).reads
    real = Steer.__post_init__

    def stronger(steer):
        real(steer)
        object.__setattr__(steer, "coefficient", steer.coefficient + 0.01)

    monkeypatch.setattr(Steer, "__post_init__", stronger)
    found = screen.screen(loaded)
    assert not found.steers and not found.idle and not found.passed


@pytest.mark.parametrize(
    ("family", "wrong", "check"),
    [("mpt", {"shares": True}, "decodes"), ("recurrent_gemma", {"shares": False, "pads": True}, "decodes"),
     ("falcon-alibi", {"branches": True}, "scores")],
)  # fmt: skip
def test_what_a_family_cannot_share_would_change_its_numbers(family, wrong, check):
    """The verdicts are needed: with them turned round, the answers or scores are wrong or fail."""
    loaded = tiny(family)
    loaded.abilities.update(wrong)
    try:
        assert not getattr(screen.screen(loaded), check)
    except (ValueError, RuntimeError) as error:
        assert not isinstance(error, ModelError)


def test_families_that_add_the_stream_inside_a_sublayer_are_hooked_below_it():
    """BLOOM's attention and MLP and MPT's MLP give the stream with their output added to it."""
    assert tiny("bloom").hooks.sublayers[0][:2] == ("self_attention.dense", "mlp.dense_4h_to_h")
    assert tiny("mpt").hooks.sublayers[0][:2] == ("attn", "ffn.down_proj")
    assert {s[:2] for s in tiny("jamba").hooks.sublayers} == {
        ("mamba", "feed_forward"), ("self_attn", "feed_forward")
    }  # fmt: skip
    assert [s[:2] for s in tiny("nemotron_h").hooks.sublayers] == [
        ("mixer", None), (None, "mixer"), ("mixer", None), (None, "mixer")
    ]  # fmt: skip
    assert tiny("granite").hooks.sublayers[0] == ("self_attn", "mlp", "scaled")


def test_an_override_replaces_what_cannot_be_found():
    message = r"adds no attention output.*self_attn: .*hooks: \{attention: …\}"
    with pytest.raises(ModelError, match=message):
        tiny("falcon_h1").hooks.module(1, "attention")
    given = tiny("falcon_h1", hooks=HookPaths(attention="self_attn", mlp="feed_forward"))
    block = given.hooks.blocks[1]
    assert given.hooks.module(1, "attention") is block.self_attn
    ids, seen = random_ids(1)[0], []
    block.self_attn.register_forward_hook(lambda _m, _a, out: seen.append(out[0][0, -1]))
    got = capture(given, [Prompt(ids)], [1], component="attention")[1][0]
    np.testing.assert_allclose(got, seen[-1].numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="block 0 has no module 'attention'"):
        _ = tiny("falcon_h1", hooks=HookPaths(attention="attention")).hooks.sublayers


def test_blocks_are_taken_from_an_override():
    loaded = tiny("llama")
    loaded.model.model.layers = nn.Sequential(*loaded.model.model.layers)
    with pytest.raises(
        ModelError, match=r"no list of blocks.*layers: Sequential.*hooks: \{blocks: …\}"
    ):
        find_hook_points(loaded.model)
    found = find_hook_points(loaded.model, HookPaths(blocks="model.layers"))
    assert found.blocks == tuple(loaded.model.model.layers)
    with pytest.raises(ModelError, match="has no module 'model.blocks'"):
        find_hook_points(loaded.model, HookPaths(blocks="model.blocks"))
    with pytest.raises(
        ModelError, match="hand on one stream of width 32 was found at model.layers.0"
    ):
        find_hook_points(loaded.model, HookPaths(blocks="model.layers.0"))


def test_a_window_that_only_the_cache_knows_counts():
    """Mistral's configuration has a window but no types of layers; GPT-Neo's is not in the cache."""
    for family in ("mistral", "phi3", "gpt_neo", "llama4_text", "modernbert-decoder"):
        loaded = tiny(family)
        assert fits_window(loaded, 16) and not fits_window(loaded, 17), family
    assert fits_window(tiny("llama"), 10**6)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_alone_give_the_same_answers_as_rows_together(temperature, caplog):
    loaded = tiny("llama")
    rng = np.random.default_rng(0)
    requests = [
        Request(ids, (Steer(np.float32(rng.normal(size=32)), 1, 1.5, where),), seed=i)
        for i, (ids, where) in enumerate(
            zip(random_ids(3), ("all", "prompt", "generated"), strict=True)
        )
    ]
    together = generate(loaded, requests, 8, temperature)
    loaded.abilities.update(shares=False, pads=False)
    assert abilities.path(loaded) == "alone" and "rows go one at a time" in caplog.text
    assert generate(loaded, requests, 8, temperature) == together


def test_verdicts_are_tried_once_a_model(monkeypatch):
    loaded = tiny("llama")
    rows = [Row((5, 6, 7), 1), Row((5, 6, 8), 1)]
    assert abilities.path(loaded) == "shared" and may_branch(loaded, rows)
    with monkeypatch.context() as broken:
        broken.setattr(loaded.model, "forward", None)
        assert abilities.path(loaded) == "shared" and may_branch(loaded, rows)
    assert np.isfinite(log_likelihoods(loaded, [(5,), (5,)], [(6, 7), (6, 8)])).all()


def test_what_is_read_is_not_changed_by_a_block_that_adds_in_place():
    """Falcon adds its attention to the MLP's output in place, after the hook."""
    loaded = tiny("falcon")
    ids = random_ids(1)[0]
    parts = [capture(loaded, [Prompt(ids)], [1], component=c)[1] for c in ("attention", "mlp")]
    stream = capture(loaded, [Prompt(ids)], [0, 1])
    np.testing.assert_allclose(stream[0] + sum(parts), stream[1], rtol=1e-3, atol=1e-4)
