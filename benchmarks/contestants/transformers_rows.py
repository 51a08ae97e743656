"""transformers with a hand-written hook that adds its own vector to every row: one batch for all."""

import torch
from common import compete, decoded, generation_arguments, hugging_face_model, padded


def sweep(model, task):
    """Doses side by side in batches of `rows` rows."""
    work = [(dose, prompt) for dose in task["doses"] for prompt in task["prompts"]]
    vector = torch.from_numpy(task["vector"]).to(model.dtype)
    outputs = []
    for start in range(0, len(work), task["rows"]):
        part = work[start : start + task["rows"]]
        ids, mask = padded([prompt for _, prompt in part])
        delta = torch.tensor([dose for dose, _ in part]).to(model.dtype)[:, None, None] * vector
        block = model.model.layers[task["layer"]]
        handle = block.register_forward_hook(lambda _m, _i, out, delta=delta: out + delta)
        out = model.generate(ids, attention_mask=mask, **generation_arguments(task))
        handle.remove()
        outputs.append((out, ids.shape[1]))
    return decoded(outputs, task)


compete(hugging_face_model, sweep)
