"""Decoding: an answer depends on its own request, never on its neighbours."""

import numpy as np
import pytest
import torch

from conftest import random_ids
from prefvec.errors import ConfigError
from prefvec.generation import Request, generate
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
