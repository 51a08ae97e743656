"""Tiny models whose residual streams are known copies of each other, and answers with a known cause."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.stats import ortho_group

from conftest import random_ids, tiny_model
from prefvec.activations import Prompt, capture
from prefvec.models.load import LoadedModel
from prefvec.study import Alignment
from prefvec.traits import load_trait

LAYER = 2
QUESTIONS = [f"q{i}" for i in range(12)]
REACH = 0.5  # own-vector lengths along the own vector at which a planted answer has half its effect


def scaled_copy(source: LoadedModel, factor: float) -> LoadedModel:
    """The same Llama with its residual stream times a factor: what writes into the stream is scaled, and
    RMSNorm takes the scale out wherever it is read. Next-token logits are the source's."""
    return _copy(source, lambda weight: weight * factor, lambda weight: weight)


def rotated_copy(source: LoadedModel, seed: int = 0) -> tuple[LoadedModel, np.ndarray]:
    """The same Llama with its residual stream h turned into h Q, and Q `[d, d]`, orthogonal: what writes
    into the stream is rotated, what reads it is rotated back (RMSNorm with weights 1 commutes)."""
    q = ortho_group.rvs(source.width, random_state=seed)
    turn = torch.tensor(q, dtype=torch.float32)
    return _copy(source, lambda weight: weight @ turn, lambda weight: weight @ turn), q


def _copy(source: LoadedModel, write, read) -> LoadedModel:
    """`write` acts on matrices whose columns are the stream, `read` likewise on those that read it."""
    other = tiny_model("llama")
    other.model.load_state_dict(source.model.state_dict())
    with torch.no_grad():
        embedding = other.model.model.embed_tokens.weight
        head = other.model.lm_head.weight.clone()
        other.model.lm_head.weight = torch.nn.Parameter(read(head), requires_grad=False)
        other.model.model.embed_tokens.weight = torch.nn.Parameter(
            write(embedding), requires_grad=False
        )
        for block in other.model.model.layers:
            inner, mlp = block.self_attn, block.mlp
            for module in (inner.q_proj, inner.k_proj, inner.v_proj, mlp.gate_proj, mlp.up_proj):
                module.weight.copy_(read(module.weight))
            for module in (inner.o_proj, mlp.down_proj):
                module.weight.copy_(write(module.weight.T).T)
    return other


def planted_study(source: LoadedModel, target: LoadedModel) -> SimpleNamespace:
    """What the diagnostics ask of a study: captured activations of the same prompts in both models, a grid
    of 24 styles and 6 questions; the vector is the difference between two groups of prompts."""
    prompts = [Prompt(ids) for ids in random_ids(144)]
    poles = [Prompt(ids) for ids in random_ids(24, seed=7)]
    x, y = (capture(m, prompts, [LAYER])[LAYER] for m in (source, target))
    vectors = {}
    for role, model in (("source", source), ("target", target)):
        acts = capture(model, poles, [LAYER])[LAYER]
        vectors[role] = acts[:12].mean(axis=0) - acts[12:].mean(axis=0)
    models = {
        role: SimpleNamespace(id=role, role=role, width=m.width)
        for role, m in (("source", source), ("target", target))
    }

    def vector(model, trait=None):
        found = vectors[model.role] if trait is None else np.roll(vectors[model.role], 1)
        return SimpleNamespace(at=lambda _: found, norm=lambda _: float(np.linalg.norm(found)))

    return SimpleNamespace(
        **models,
        vector=vector,
        trait=load_trait("verbosity"),
        control_trait=load_trait("formality"),
        settings=SimpleNamespace(
            seed=0, n_random=3, scales=[0.1, 0.3, 1.0, 3.0, 10.0], penalties=[0.1, 1.0, 10.0]
        ),
        store=SimpleNamespace(json=lambda _kind, _key, compute: compute()),
        alignment=Alignment(
            {LAYER: x}, {LAYER: y},
            tuple(f"s{i}" for i in range(24) for _ in range(6)),
            tuple(f"a{j}" for _ in range(24) for j in range(6)),
        ),
        splits={"selection": QUESTIONS[:6], "evaluation": QUESTIONS},
    )  # fmt: skip


def planted_sweep(study, loaded, conditions, split, instruction=False) -> pd.DataFrame:
    """Answers without a model. The score, 50 when unsteered, goes by what the added vector has along the
    target's own: 30 times x / (x + `REACH`) for x own-vector lengths. Beyond eight lengths in any
    direction an answer collapses. A small deviation belongs to the prompt and the condition."""
    own = study.vector(study.target).at(LAYER)
    rows = []
    for method, vector, layer, dose in conditions:
        added = np.zeros_like(own) if vector is None else np.asarray(vector) * abs(dose)
        along = max(0.0, float(added @ own) / float(own @ own))
        collapsed = np.linalg.norm(added) > 8 * np.linalg.norm(own)
        moved = study.trait.sign * 30 * along / (along + REACH)
        name = sum(map(ord, method)) + int(1000 * abs(dose))
        noise = 0.0 if vector is None else 1.0
        for i, question in enumerate(study.splits[split]):
            deviation = noise * np.random.default_rng([name, i]).normal()
            text = "so so so so so so so so so so" if collapsed else f"an answer to {question} here"
            rows.append((method, layer, dose, question, text, 50 + moved + deviation, collapsed))
    columns = ["method", "layer", "dose", "question", "text", "score", "collapsed"]
    return pd.DataFrame(rows, columns=columns)
