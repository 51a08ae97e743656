"""The plain reference: one row, one hook, no cache; what the others' texts are checked against.

`first` in the task says whether the first token of a prompt is steered too, as peers do.
"""

import torch
from common import Answers, compete, decoded, hugging_face_model


def sweep(model, task) -> Answers:
    """The most likely next token of the whole text so far, again and again."""
    outputs = []
    for dose in task["doses"]:
        delta = dose * torch.from_numpy(task["vector"])

        def hook(_module, _inputs, out, delta=delta):
            out = out.clone()
            out[:, 0 if task["first"] else 1 :] += delta
            return out

        handle = model.model.layers[task["layer"]].register_forward_hook(hook)
        for prompt in task["prompts"]:
            ids = torch.tensor([prompt])
            for _ in range(task["new_tokens"]):
                best = model(ids).logits[:, -1].argmax(dim=-1, keepdim=True)
                ids = torch.cat([ids, best], dim=1)
                if int(best) in task["stop_ids"]:
                    break
            outputs.append((ids, len(prompt)))
        handle.remove()
    return decoded(outputs, task)


compete(hugging_face_model, sweep)
