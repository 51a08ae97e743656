"""transformers with a hand-written hook that adds its own vector to every row: one batch for all."""

import torch
from common import compete, decoded, hugging_face_model, steered_batch


def sweep(model, task):
    """Doses side by side in batches of `rows` rows."""
    work = [(dose, prompt) for dose in task["doses"] for prompt in task["prompts"]]
    vector = torch.from_numpy(task["vector"]).to(model.dtype)
    outputs = []
    for start in range(0, len(work), task["rows"]):
        part = work[start : start + task["rows"]]
        delta = torch.tensor([dose for dose, _ in part]).to(model.dtype)[:, None, None] * vector
        outputs.append(steered_batch(model, task, [prompt for _, prompt in part], delta))
    return decoded(outputs, task)


compete(hugging_face_model, sweep)
