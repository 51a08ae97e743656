"""repeng: `ControlModel.set_control(vector, coefficient)`, a dose at a time."""

import numpy as np
from common import compete, decoded, generation_arguments, hugging_face_model, padded

np.float_ = np.float64  # the release uses a name that NumPy 2 removed

from repeng import ControlModel, ControlVector  # noqa: E402


def load(task):
    """The model with its steered layer wrapped."""
    return ControlModel(hugging_face_model(task), [task["layer"]])


def sweep(model, task):
    """One `set_control` and one `generate` a dose."""
    ids, mask = padded(task["prompts"])
    vector = ControlVector(model.config.model_type, {task["layer"]: task["vector"]})
    outputs = []
    for dose in task["doses"]:
        model.set_control(vector, dose)
        out = model.generate(ids, attention_mask=mask, **generation_arguments(task))
        model.reset()
        outputs.append((out, ids.shape[1]))
    return decoded(outputs, task)


compete(load, sweep)
