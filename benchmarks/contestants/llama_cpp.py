"""llama.cpp's server on the quantised file, without steering: its Python binding can't load a vector.

All answers are asked for at once; the server has `rows` slots.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import xllamacpp
from common import Answers, compete


def load(task):
    """A server with `rows` slots."""
    params = xllamacpp.CommonParams()
    params.model.path = task["gguf"]
    params.n_parallel = task["rows"]
    params.n_ctx = task["rows"] * (max(map(len, task["prompts"])) + task["new_tokens"] + 8)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = task["threads"]
    params.warmup, params.verbosity, params.port = False, -1, 0
    return xllamacpp.Server(params)


def sweep(server, task):
    """As many answers as the sweep has rows."""

    def ask(prompt):
        reply = server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": task["new_tokens"],
                "temperature": 0.0,
                "ignore_eos": not task["stop_ids"],
                "cache_prompt": True,
            }
        )
        reply = json.loads(reply) if isinstance(reply, str) else reply
        return reply["choices"][0]["text"].strip(), reply["usage"]["completion_tokens"]

    prompts = [prompt for _ in task["doses"] for prompt in task["prompts"]]
    with ThreadPoolExecutor(task["rows"]) as pool:
        found = list(pool.map(ask, prompts))
    return Answers([text for text, _ in found], [n for _, n in found])


compete(load, sweep)
