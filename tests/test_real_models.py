"""The embedded models are the models they claim to be: agreement with llama.cpp on the same GGUF."""

import math

import numpy as np
import pytest
import torch

from prefvec.activations import Prompt, capture
from prefvec.generation import Request, generate
from prefvec.models.fetch import gguf_file
from prefvec.models.hooks import block_output, replace_output
from prefvec.models.load import load_model
from prefvec.models.registry import resolve
from prefvec.steering import Steer

pytestmark = pytest.mark.real
EMBEDDED = ["smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct"]
ENGLISH = (
    "The river rises in the hills north of the town and runs for ninety miles before it reaches the sea. "
    "For most of its history it carried coal, timber and grain, and the mills along its banks employed "
    "thousands of people. When the railway came, the barges slowly disappeared. Today the water is clean "
    "again, and in the early morning one can see herons standing in the shallows, waiting for fish. Children "
    "learn to sail on the lake above the weir, and an old warehouse has become a museum of the trade."
)
PROMPTS = [
    "The capital of France is", "Water boils at a temperature of", "She opened the door and saw",
    "The three primary colours are red,", "In 1969, the first man walked on the", "To make bread you need flour,",
    "def add(a, b):\n    return", "My favourite season is", "The opposite of hot is", "Once upon a time there was a",
    "The largest planet in the solar system is", "Roses are red, violets are", "A dog is an animal that",
    "The quick brown fox jumps over the lazy", "Two plus two equals", "He plays the piano and the",
    "The sun rises in the", "Monday, Tuesday, Wednesday,", "The author of Hamlet is", "Please turn off the",
]  # fmt: skip


@pytest.fixture(scope="module", params=EMBEDDED)
def pair(request):
    """A model here, and the same GGUF file in a llama.cpp server."""
    import xllamacpp

    loaded = load_model(request.param, device="cpu", dtype="float32")
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf_file(resolve(request.param)))
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity, params.port = (
        1024,
        1,
        False,
        -1,
        0,
    )
    return loaded, xllamacpp.Server(params)


def llama_cpp_next(server, ids, top=1):
    """llama.cpp's log-probabilities of the next token, most likely first: {id: nats}."""
    reply = server.handle_completions(
        {
            "prompt": list(ids),
            "n_predict": 1,
            "n_probs": top,
            "temperature": 0.0,
            "cache_prompt": True,
        }
    )
    return {
        c["id"]: c["logprob"] for c in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    }


@torch.inference_mode()
def our_logprobs(loaded, ids):
    return torch.log_softmax(loaded.model(torch.tensor([ids])).logits[0].float(), dim=-1)


def with_bos(loaded, text):
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return [loaded.tokenizer.bos_token_id, *ids] if loaded.spec.family == "Gemma 3" else ids


def test_next_tokens_agree_with_llama_cpp(pair):
    """llama.cpp quantises activations to 8 bits on the fly, so near-ties may fall differently."""
    loaded, server = pair
    agree = []
    for prompt in PROMPTS:
        ids = with_bos(loaded, prompt)
        ours = our_logprobs(loaded, ids)[-1]
        theirs = llama_cpp_next(server, ids)
        [token] = theirs
        agree.append(int(ours.argmax()) == token)
        assert ours.max().item() - ours[token].item() < 0.5, f"not a near-tie: {prompt}"
    print(f"{loaded.id}: {np.mean(agree):.2f} of {len(PROMPTS)} prompts")
    assert np.mean(agree) >= 0.8


def test_perplexity_of_english_is_llama_cpp_s(pair):
    loaded, server = pair
    ids = with_bos(loaded, ENGLISH)
    ours = our_logprobs(loaded, ids)
    pairs, agree = [], []
    asked = range(8, len(ids), 3)  # each is a pass of llama.cpp over its whole vocabulary
    for i in asked:
        theirs = llama_cpp_next(server, ids[:i], top=4000)
        agree.append(int(ours[i - 1].argmax()) == max(theirs, key=theirs.get))
        if ids[i] in theirs:
            pairs.append((ours[i - 1, ids[i]].item(), theirs[ids[i]]))
    assert len(pairs) >= 0.95 * len(asked)
    here, there = (math.exp(-np.mean(column)) for column in zip(*pairs, strict=True))
    print(
        f"{loaded.id}: perplexity {here:.2f}, llama.cpp {there:.2f}, next tokens {np.mean(agree):.2f}"
    )
    assert here / there == pytest.approx(1, abs=0.04), (here, there)
    assert np.mean(agree) >= 0.9  # the rest are near-ties
    assert here < 60  # a wrongly read model has hundreds


def test_capture_equals_hidden_states_on_the_real_model(pair):
    loaded, _ = pair
    ids = tuple(with_bos(loaded, "The sun rises in the east."))
    layers = [0, loaded.n_layers // 2, loaded.n_layers - 2]
    got = capture(loaded, [Prompt(ids)], layers)
    with torch.inference_mode():
        states = loaded.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    for layer in layers:
        want = states[layer + 1][0, -1].numpy()
        np.testing.assert_allclose(got[layer][0], want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


@torch.inference_mode()
def reference(loaded, request, limit):
    """The plain path: one row, one hook, no cache, the whole prompt again for every token.

    Gives the tokens and, for each, how far (nats) the best logit lay above the second."""
    [steer] = request.steers
    delta = torch.tensor(steer.coefficient * steer.vector)

    def hook(_module, _inputs, output):
        hidden = block_output(output, 1).clone()
        hidden[:, 1:] += delta
        return replace_output(output, hidden)

    ids, margins = list(request.ids), []
    handle = loaded.hooks.blocks[steer.layer].register_forward_hook(hook)
    try:
        for _ in range(limit):
            best = loaded.model(torch.tensor([ids])).logits[0, -1].topk(2)
            margins.append(float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
    finally:
        handle.remove()
    return ids[len(request.ids) :], margins


def test_a_sweep_gives_the_plain_reference_s_tokens(pair):
    """Greedy float32, token for token; where rounding decides (a margin below 1e-3 nats), the
    texts may part from there on."""
    loaded, _ = pair
    layer = loaded.n_layers // 2
    generator = np.random.default_rng(0)
    v = np.float32(generator.normal(size=loaded.width))
    scale = np.linalg.norm(capture(loaded, [Prompt((5, 6, 7, 8, 9))], [layer])[layer][0])
    v *= 0.1 * scale / np.linalg.norm(v)
    prompts = [tuple(with_bos(loaded, p)) for p in PROMPTS[:6]]
    requests = [Request(ids, (Steer(v, layer, dose),)) for dose in (-1.0, 1.0) for ids in prompts]
    object.__setattr__(loaded.prompt, "stop_ids", frozenset())
    object.__setattr__(loaded.prompt, "stop_strings", ())
    answers = generate(loaded, requests, 12, rows_per_batch=5)
    for request, answer in zip(requests, answers, strict=True):
        tokens, margins = reference(loaded, request, 12)
        sure = next((k for k, margin in enumerate(margins) if margin < 1e-3), 12)
        text = loaded.tokenizer.decode(tokens[:sure], skip_special_tokens=True).strip()
        assert answer.text.startswith(text) if sure < 12 else answer.text == text
        assert answer.n_tokens == 12


def test_a_local_folder_and_a_gguf_file_are_the_same_model(monkeypatch, tmp_path):
    from prefvec.models.materialise import materialise

    by_id = load_model("smollm2-135m-instruct", dtype="float32")
    folder = materialise(resolve("smollm2-135m-instruct"))
    by_folder = load_model(str(folder), dtype="float32")
    assert by_folder.fingerprint == by_id.fingerprint
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        assert torch.equal(by_id.model(ids).logits, by_folder.model(ids).logits)


def test_prompts_end_where_the_answer_begins():
    chat = load_model("smollm2-135m-instruct", dtype="float32")
    base = load_model("gemma-3-270m", dtype="float32")
    text = chat.prompt.render("Why?")
    assert "You are a helpful assistant." in text and "SmolLM, trained by" not in text
    assert text.endswith("<|im_start|>assistant\n")
    ids = base.prompt.encode(base.prompt.render("Why?"))
    assert ids[0] == base.tokenizer.bos_token_id and ids.count(ids[0]) == 1
    assert base.prompt.render("Why?").endswith("Question: Why?\nAnswer:")
    assert base.prompt.cut("Because.\nQuestion: What?") == ("Because.", True)
    assert {0, 2} <= chat.stop_ids
