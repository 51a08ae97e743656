"""transformers with one hook: a dose at a time, all prompts in a batch."""

import torch
from common import compete, decoded, hugging_face_model, steered_batch


def sweep(model, task):
    """One `generate` a dose, the vector added by a forward hook at every position."""
    vector = torch.from_numpy(task["vector"]).to(model.dtype)
    outputs = [steered_batch(model, task, task["prompts"], dose * vector) for dose in task["doses"]]
    return decoded(outputs, task)


compete(hugging_face_model, sweep)
