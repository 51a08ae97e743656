"""prefvec: all doses and prompts in one call."""

from common import Answers, compete

from prefvec.generation import Request, generate
from prefvec.models.load import load_model
from prefvec.steering import Steer


def load(task):
    """The model by its folder, with the task's stop tokens."""
    loaded = load_model(task["folder"], device="cpu", dtype=task["dtype_asked"])
    object.__setattr__(loaded.prompt, "stop_ids", frozenset(task["stop_ids"]))
    object.__setattr__(loaded.prompt, "stop_strings", ())
    return loaded


def sweep(loaded, task):
    """One request a dose and prompt."""
    requests = [
        Request(tuple(prompt), (Steer(task["vector"], task["layer"], dose),))
        for dose in task["doses"]
        for prompt in task["prompts"]
    ]
    found = generate(loaded, requests, task["new_tokens"])
    return Answers([answer.text for answer in found], [answer.n_tokens for answer in found])


compete(load, sweep)
