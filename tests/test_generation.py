"""Decoding: an answer depends on its own request, never on its neighbours."""

import numpy as np
import pytest
import torch

from conftest import random_ids
from prefvec import batching, generation
from prefvec.errors import ConfigError
from prefvec.generation import Request, generate, rows_that_fit
from prefvec.prefill import prefill
from prefvec.progress import watched
from prefvec.steering import Steer


def mixed_requests(loaded, n=6):
    generator = np.random.default_rng(0)
    out = []
    for i, ids in enumerate(random_ids(n)):
        v = np.float32(generator.normal(size=loaded.width))
        where = ("all", "prompt", "generated")[i % 3]
        out.append(Request(ids, (Steer(v, i % loaded.n_layers, 0.8 * (i - 2), where),), seed=i))
    return out


def test_a_mixed_batch_equals_single_rows(tiny):
    requests = mixed_requests(tiny)
    together = generate(tiny, requests, 12)
    alone = [generate(tiny, [r], 12)[0] for r in requests]
    assert together == alone


def sweep_requests(loaded):
    """Prompts with a common beginning, each at several doses, layers and positions."""
    generator = np.random.default_rng(1)
    v, w = (np.float32(generator.normal(size=loaded.width)) for _ in range(2))
    start = random_ids(1, low=12, high=13)[0]
    prompts = [start + ids for ids in random_ids(3, seed=5)] + random_ids(2, seed=6)
    additions = [
        (),
        (Steer(v, 1, 1.0),),
        (Steer(v, 1, -1.0),),
        (Steer(v, 3, 2.0), Steer(w, 2, 0.5, "prompt")),
        (Steer(w, 2, 1.0, "generated"),),
        (Steer(w, 1, 1.0, component="mlp"),),
    ]
    return [Request(ids, steers) for steers in additions for ids in prompts]


def test_a_sweep_that_shares_prompts_and_places_equals_single_rows(tiny):
    """Five places for thirty requests: rows join, leave, and share what they have in common."""
    requests = sweep_requests(tiny)
    together = generate(tiny, requests, 10, rows_per_batch=5)
    alone = [generate(tiny, [r], 10)[0] for r in requests]
    assert together == alone
    assert generate(tiny, requests[::-1], 10)[::-1] == alone


def test_prompts_are_computed_once_up_to_the_block_that_steers(llama):
    """Three doses of one vector at block 2 on four prompts: blocks 0 to 2 see four rows."""
    v = np.ones(llama.width, np.float32)
    prompts = random_ids(4, low=9, high=10)
    rows = [(ids, (Steer(v, 2, dose),)) for dose in (0.5, 1.0, 2.0) for ids in prompts]
    seen = {}
    for i, block in enumerate(llama.hooks.blocks):
        block.self_attn.register_forward_pre_hook(
            lambda _m, _a, kwargs, i=i: seen.update({i: len(kwargs["hidden_states"])}),
            with_kwargs=True,
        )
    found = prefill(llama, [ids for ids, _ in rows], [s for _, s in rows], 4)
    assert seen == {0: 4, 1: 4, 2: 4, 3: 12}
    assert found.logits.shape[0] == 12 and len(found.cache.layers[0].keys) == 12


def test_a_prompt_steered_only_after_it_is_computed_once(llama):
    v = np.ones(llama.width, np.float32)
    ids = random_ids(1)[0]
    passes = []
    llama.hooks.blocks[3].register_forward_hook(
        lambda _m, _a, out: passes.append((out if torch.is_tensor(out) else out[0]).shape[:2])
    )
    generate(llama, [Request(ids, (Steer(v, 1, a, "generated"),)) for a in (1.0, 2.0)], 2)
    assert passes == [(1, len(ids)), (2, 1)]


def test_waiting_rows_take_the_places_of_finished_ones(llama, monkeypatch):
    """Fewer steps than batches of four that each wait for their longest row."""
    lengths = [2, 3, 30, 4, 28, 3, 2, 5, 3, 4, 2, 26]
    real = generation._Decoder._advance

    def ends_at_its_length(self, row, token):
        real(self, row, token)
        if len(self.tokens[row]) == lengths[row]:
            return generation.Generation("", lengths[row], "stop")

    monkeypatch.setattr(generation._Decoder, "_advance", ends_at_its_length)
    steps = []
    llama.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: steps.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    answers = generate(llama, [Request(ids) for ids in random_ids(12)], 40, rows_per_batch=4)
    assert [a.n_tokens for a in answers] == lengths
    decoding = [rows for rows, tokens in steps if tokens == 1]
    waiting = sum(max(lengths[i : i + 4]) for i in range(0, 12, 4))
    assert len(decoding) < 0.7 * waiting and max(decoding) <= 4


def test_the_batch_follows_from_the_free_memory(llama, monkeypatch):
    class Memory:
        available = 0

    monkeypatch.setattr(batching.psutil, "virtual_memory", lambda: Memory)
    rows = []
    for available in (0, 1 << 22, 1 << 23, 1 << 40):
        Memory.available = available
        rows.append(rows_that_fit(llama, 100))
    assert rows[0] == 1 and 1 < rows[1] < rows[2] < rows[3] == 256


def test_unsteered_greedy_equals_transformers_generate(tiny):
    ids = random_ids(1, seed=3)[0]
    [ours] = generate(tiny, [Request(ids)], 10)
    with torch.inference_mode():
        out = tiny.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=10, do_sample=False, eos_token_id=list(tiny.stop_ids), pad_token_id=0,
        )[0, len(ids) :].tolist()  # fmt: skip
    out = [t for t in out if t not in tiny.stop_ids]
    assert ours.text == tiny.tokenizer.decode(out, skip_special_tokens=True).strip()


def test_rows_that_stop_leave_the_batch_and_change_nothing(llama):
    """Make half of the rows stop at once by declaring their first token a stop token."""
    requests = [Request(ids) for ids in random_ids(8)]
    with torch.inference_mode():
        first = llama.model(torch.tensor([requests[0].ids])).logits[0, -1].argmax().item()
    free = generate(llama, requests, 12)
    object.__setattr__(llama.prompt, "stop_ids", frozenset({first}))
    stopped = generate(llama, requests, 12)
    assert stopped[0].n_tokens == 0 and stopped[0].finish == "stop"
    for a, b in zip(free, stopped, strict=True):
        assert b.finish == "stop" or a == b
        assert a.text.startswith(b.text[:3])


def test_sampling_depends_on_seed_and_row_alone(llama):
    requests = [Request(ids, seed=1) for ids in random_ids(5)]
    together = generate(llama, requests, 8, temperature=1.0)
    alone = [generate(llama, [r], 8, temperature=1.0)[0] for r in reversed(requests)][::-1]
    other = generate(llama, [Request(r.ids, seed=2) for r in requests], 8, temperature=1.0)
    assert together == alone
    assert together != other


def test_a_repeated_run_reads_the_store_and_a_damaged_answer_is_made_again(llama, store):
    requests = mixed_requests(llama)
    first = generate(llama, requests, 6, store=store)
    paths = sorted((store.root / "generations").rglob("*.json"))
    paths[0].write_text(paths[0].read_text().replace('"value"', '"valve"'))
    before = {p: p.stat().st_mtime_ns for p in paths[1:]}
    assert generate(llama, requests, 6, store=store) == first
    assert before == {p: p.stat().st_mtime_ns for p in paths[1:]}


def test_an_answer_at_the_limit_is_marked_as_cut(llama):
    [answer] = generate(llama, [Request((5, 6, 7))], 3)
    assert answer.n_tokens <= 3
    assert (answer.finish == "length") == (answer.n_tokens == 3)


@pytest.mark.parametrize(("limit", "temperature"), [(0, 0.0), (4, -1.0)])
def test_bad_limits_are_refused(llama, limit, temperature):
    with pytest.raises(ConfigError):
        generate(llama, [Request((5,))], limit, temperature)


def test_texts_are_told_as_they_grow_and_stay_the_same(tiny):
    """Two equal requests share a row; both are told."""
    requests = mixed_requests(tiny, 3)
    requests.append(requests[0])
    told = {i: [] for i in range(4)}
    answers = generate(tiny, requests, 12, on_text=lambda i, text: told[i].append(text))
    assert answers == generate(tiny, requests, 12)
    assert told[3] == told[0] and answers[3] == answers[0]
    for i, answer in enumerate(answers):
        assert told[i][-1] == answer.text and len(told[i]) >= min(answer.n_tokens, 12)
        assert all(answer.text.startswith(text.rstrip("\ufffd")) for text in told[i])


def test_known_texts_are_told_at_once_and_a_watcher_can_stop_the_rest(llama, store):
    requests = mixed_requests(llama, 2)
    known = generate(llama, requests[:1], 12, store=store)
    told = []

    def stop(number, text):
        told.append((number, text))
        if number == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate(llama, requests, 12, store=store, on_text=stop)
    assert told[0] == (0, known[0].text) and [n for n, _ in told] == [0, 1]
    assert all(not block._forward_hooks for block in llama.hooks.blocks)


def test_a_watched_bar_counts_rows_and_passes_on_an_error(llama):
    seen = []
    with watched(lambda label, done, steps: seen.append((label, done, steps))):
        generate(llama, mixed_requests(llama, 3), 6, label="steer")
    assert sorted(seen) == [(f"steer · {llama.id}", i, 3) for i in (1, 2, 3)]
    generate(llama, mixed_requests(llama, 3), 6)
    assert len(seen) == 3
