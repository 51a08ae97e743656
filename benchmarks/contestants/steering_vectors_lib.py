"""steering-vectors: `with vector.apply(model, multiplier=…)`, a dose at a time."""

import torch
from common import compete, decoded, generation_arguments, hugging_face_model, padded
from steering_vectors import SteeringVector


def sweep(model, task):
    """One context manager and one `generate` a dose."""
    ids, mask = padded(task["prompts"])
    vector = SteeringVector({task["layer"]: torch.from_numpy(task["vector"])}, "decoder_block")
    outputs = []
    for dose in task["doses"]:
        with vector.apply(model, multiplier=dose):
            out = model.generate(ids, attention_mask=mask, **generation_arguments(task))
        outputs.append((out, ids.shape[1]))
    return decoded(outputs, task)


compete(hugging_face_model, sweep)
