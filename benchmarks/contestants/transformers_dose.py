"""transformers with one hook: a dose at a time, all prompts in a batch."""

import torch
from common import compete, decoded, generation_arguments, hugging_face_model, padded


def sweep(model, task):
    """One `generate` a dose, the vector added by a forward hook at every position."""
    ids, mask = padded(task["prompts"])
    outputs = []
    for dose in task["doses"]:
        delta = dose * torch.from_numpy(task["vector"]).to(model.dtype)
        block = model.model.layers[task["layer"]]
        handle = block.register_forward_hook(lambda _m, _i, out, delta=delta: out + delta)
        out = model.generate(ids, attention_mask=mask, **generation_arguments(task))
        handle.remove()
        outputs.append((out, ids.shape[1]))
    return decoded(outputs, task)


compete(hugging_face_model, sweep)
