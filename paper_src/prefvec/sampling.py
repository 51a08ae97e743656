"""Tokens drawn so that a row's draws depend on its own seed and prompt, never on its batch."""

import hashlib

import numpy as np
import torch


def sampled(logits: torch.Tensor, temperature: float, draws: np.ndarray) -> torch.Tensor:
    """Tokens `[rows]` by inverse CDF of a uniform draw a row."""
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    level = torch.as_tensor(draws, device=logits.device)[:, None]
    chosen = torch.searchsorted(probabilities.cumsum(dim=-1), level)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1)


def uniforms(ids: tuple[int, ...], seed: int, limit: int) -> np.ndarray:
    """Uniform draws `[limit]` that depend on a row's seed and prompt (ids) only."""
    digest = hashlib.sha256(repr((seed, ids)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(limit)
