"""pyvene: an addition on a block's output during `generate`, a dose at a time."""

import pyvene
import torch
from common import compete, decoded, generation_arguments, hugging_face_model, padded


def sweep(model, task):
    """One intervenable model and one `generate` a dose."""
    ids, mask = padded(task["prompts"])
    outputs = []
    for dose in task["doses"]:
        delta = dose * torch.from_numpy(task["vector"]).to(model.dtype)
        place = {
            "component": f"model.layers[{task['layer']}].output",
            "intervention": lambda base, _source, delta=delta: base + delta,
        }
        steered = pyvene.IntervenableModel(place, model)
        _, out = steered.generate(
            {"input_ids": ids, "attention_mask": mask},
            unit_locations=None,
            intervene_on_prompt=True,
            **generation_arguments(task),
        )
        outputs.append((out, ids.shape[1]))
    return decoded(outputs, task)


compete(hugging_face_model, sweep)
