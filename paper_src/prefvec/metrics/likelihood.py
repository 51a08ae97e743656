"""Log-likelihood of given answers after given prompts, each shared beginning computed once.

Answers to one question under many steering vectors begin alike, and all follow one prompt. The rows of a
pass are merged into a prefix tree whose nodes are tokens, laid out in one sequence: a token attends to
its ancestors alone and has its depth for a position, so there is no padding and nothing is computed
twice (tree attention as in SpecInfer, Miao et al. 2024, where it verifies drafts).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from prefvec.abilities import tried
from prefvec.batching import common_beginning, fits_window, logits_at
from prefvec.models.load import LoadedModel
from prefvec.store import Store

LIKELIHOOD_VERSION = 3
NODES_PER_PASS = 768  # attention is computed between all nodes of a pass, related or not
MAX_LOGITS = 1 << 27  # logits held at once: 512 MiB in float32
ROWS_PER_SUM = 64  # rows of logits that are normalised at once

Ids = tuple[int, ...]


class Row(NamedTuple):
    """A prompt with its answer, and where the answer begins."""

    ids: Ids
    start: int


class Tree(NamedTuple):
    """Rows merged by common beginnings, depth first. `tokens`, `depths`, and `ends` (one past the last
    descendant) by node; `paths`: the nodes of each row; `rows`: their indices."""

    tokens: list[int]
    depths: list[int]
    ends: list[int]
    paths: list[list[int]]
    rows: list[int]


def log_likelihoods(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    store: Store | None = None,
    nodes_per_pass: int = NODES_PER_PASS,
) -> list[tuple[float, int]]:
    """Sum of log-probabilities (nats) of each answer's tokens after its prompt, and their number."""
    rows = [Row((*p, *a), len(p)) for p, a in zip(prompts, answers, strict=True)]

    def compute() -> list:
        out: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
        limit = min(nodes_per_pass, MAX_LOGITS // loaded.model.config.get_text_config().vocab_size)
        for tree in trees(rows, limit if may_branch(loaded, rows) else 0):
            for i, total in zip(tree.rows, _totals(loaded, rows, tree), strict=True):
                out[i] = (total, len(rows[i].ids) - rows[i].start)
        return out

    if store is None:
        return compute()
    key = {
        "version": LIKELIHOOD_VERSION,
        "model": loaded.identity(),
        "prompts": [list(p) for p in prompts],
        "answers": [list(a) for a in answers],
    }
    return [tuple(pair) for pair in store.json("likelihoods", key, compute)]


def may_branch(loaded: LoadedModel, rows: Sequence[Row]) -> bool:
    """Whether a mask alone says what a token sees, tried once on a small tree, and no window cuts a row."""
    longest = max((len(row.ids) for row in rows), default=0)
    return fits_window(loaded, longest) and tried(
        loaded, "branches", lambda two: _branched(loaded, two)
    )


def _branched(loaded: LoadedModel, ids: Sequence[Ids]) -> torch.Tensor:
    """Logits `[rows, 2, vocabulary]` of the last two tokens of each row, from one tree."""
    [tree] = trees([Row(row, 1) for row in ids], sum(map(len, ids)))
    ends = torch.tensor([tree.paths[tree.rows.index(i)][-2:] for i in range(len(ids))])
    wanted, at = ends.flatten().unique(return_inverse=True)
    return _logits(loaded, tree, wanted.tolist())[at.view_as(ends)]


def trees(rows: Sequence[Row], limit: int) -> Iterator[Tree]:
    """Prefix trees over the rows that have an answer, of at most `limit` nodes each unless one row has
    more. With a limit of 0 each row is a tree."""
    tree, last = Tree([], [], [], [], []), ()
    for i in sorted(
        (i for i in range(len(rows)) if len(rows[i].ids) > rows[i].start), key=lambda i: rows[i].ids
    ):
        ids = rows[i].ids
        shared = common_beginning(last, ids)
        if tree.rows and len(tree.tokens) + len(ids) - shared > limit:
            yield tree
            tree, shared = Tree([], [], [], [], []), 0
        path = tree.paths[-1][:shared] if shared else []
        fresh = range(len(tree.tokens), len(tree.tokens) + len(ids) - shared)
        tree.tokens.extend(ids[shared:])
        tree.depths.extend(range(shared, len(ids)))
        tree.ends.extend([0] * len(fresh))
        path = [*path, *fresh]
        for node in path:  # depth first: what was added last descends from the whole path
            tree.ends[node] = len(tree.tokens)
        tree.paths.append(path)
        tree.rows.append(i)
        last = ids
    if tree.rows:
        yield tree


@torch.inference_mode()
def _totals(loaded: LoadedModel, rows: Sequence[Row], tree: Tree) -> list[float]:
    """Sum of the answer's log-probabilities (nats) for every row of the tree, in its order."""
    device, n = loaded.device, len(tree.tokens)
    edges = sorted({
        (path[k], path[k - 1]) for i, path in zip(tree.rows, tree.paths, strict=True) for k in range(max(1, rows[i].start), len(path))
    })  # fmt: skip
    parents = sorted({parent for _, parent in edges})
    place = {parent: k for k, parent in enumerate(parents)}
    logits = _logits(loaded, tree, parents)
    sums = torch.cat([part.float().logsumexp(-1) for part in logits.split(ROWS_PER_SUM)])
    at = torch.tensor([place[parent] for _, parent in edges], device=device)
    token = torch.tensor([tree.tokens[node] for node, _ in edges], device=device)
    found = np.zeros(n)
    found[[node for node, _ in edges]] = (logits[at, token].float() - sums[at]).cpu().numpy()
    return [
        float(found[path[rows[i].start :]].sum())
        for i, path in zip(tree.rows, tree.paths, strict=True)
    ]


def _logits(loaded: LoadedModel, tree: Tree, nodes: Sequence[int]) -> torch.Tensor:
    """Logits `[nodes, vocabulary]` at some nodes; one row alone is a plain pass."""
    device = loaded.device
    ids, keep = torch.tensor([tree.tokens], device=device), torch.tensor(nodes, device=device)
    if len(tree.rows) == 1:
        return logits_at(loaded, keep, input_ids=ids)[0]
    depths = torch.tensor([tree.depths], device=device)
    mask = _ancestors(loaded, tree)
    return logits_at(loaded, keep, input_ids=ids, position_ids=depths, attention_mask=mask)[0]


def _ancestors(loaded: LoadedModel, tree: Tree) -> torch.Tensor:
    """Additive mask `[1, 1, nodes, nodes]`: 0 where a node (row) may see another (column), itself or an
    ancestor. Depth first, a node's descendants are the nodes that follow it, up to its end."""
    node = torch.arange(len(tree.tokens))
    ends = torch.tensor(tree.ends)
    seen = (node[None, :] <= node[:, None]) & (node[:, None] < ends[None, :])
    mask = torch.zeros(seen.shape, dtype=loaded.dtype)
    mask.masked_fill_(~seen, torch.finfo(loaded.dtype).min)
    return mask[None, None].to(loaded.device)
