"""TransformerLens: a hook on a bridge's residual stream during `generate`, a dose at a time."""

import torch
from common import compete, decoded, padded
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(task):
    """The model from its folder behind TransformerLens's bridge."""
    model = AutoModelForCausalLM.from_pretrained(
        task["folder"], dtype=getattr(torch, task["dtype"])
    )
    return TransformerBridge.boot_transformers(
        task["folder"],
        hf_model=model.eval(),
        tokenizer=AutoTokenizer.from_pretrained(task["folder"], padding_side="left"),
        dtype=getattr(torch, task["dtype"]),
    )


def sweep(bridge, task):
    """One hook and one `generate` a dose."""
    ids, mask = padded(task["prompts"])
    outputs = []
    for dose in task["doses"]:
        delta = dose * torch.from_numpy(task["vector"])
        name = f"blocks.{task['layer']}.hook_out"
        with bridge.hooks(fwd_hooks=[(name, lambda value, hook, delta=delta: value + delta)]):
            out = bridge.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=task["new_tokens"],
                do_sample=False,
                stop_at_eos=bool(task["stop_ids"]),
                eos_token_id=task["stop_ids"] or None,
                return_type="tokens",
                verbose=False,
            )
        outputs.append((out, ids.shape[1]))
    return decoded(outputs, task)


compete(load, sweep)
