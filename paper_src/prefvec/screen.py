"""Does the library read, steer and decode a model as it says? Each claim against a plain computation.

The plain computation is transformers alone: one row, no padding, no cache, one hook.
"""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from prefvec.abilities import path
from prefvec.activations import Prompt, Site, capture_sites
from prefvec.batching import pad_left
from prefvec.errors import ModelError
from prefvec.families import families, tiny_config, tiny_model
from prefvec.generation import Request, generate
from prefvec.metrics.likelihood import Row, log_likelihoods, may_branch
from prefvec.models.hooks import COMPONENTS, block_output, replace_output
from prefvec.models.load import LoadedModel
from prefvec.steering import RowSteering, Steer

CLOSE = 2e-3  # of the largest number: float32 and the order of sums
NEW_TOKENS = 4


@dataclass(frozen=True)
class Screened:
    """What was found. Each check is True, False, or None where the model has no such thing.

    reads: captured blocks are transformers' hidden states; adds: what a block adds is attention + MLP
    (`sum` says how; checked where it is plain); steers: a vector is added exactly where asked, nothing else changes; idle: dose 0
    is bit-identical; decodes, scores: answers and likelihoods are the plain ones. `rows` says how rows go
    through the model (`abilities.path`), `tree` whether likelihoods share a tree (False too where a window
    is shorter than the rows).
    """

    attention: str
    mlp: str
    sum: str
    rows: str
    tree: bool
    reads: bool
    adds: bool | None
    steers: bool
    idle: bool
    decodes: bool
    scores: bool

    def as_dict(self) -> dict:
        """Plain values, for tables."""
        return asdict(self)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        checks = (self.reads, self.adds, self.steers, self.idle, self.decodes, self.scores)
        return not any(value is False for value in checks)


def screen(loaded: LoadedModel, seed: int = 0) -> Screened:
    """Check a model on a few short prompts. Raises ModelError where it can't be used at all."""
    prompts = _prompts(loaded, seed)
    sublayers = loaded.hooks.sublayers
    kinds = {s.sum for s in sublayers}
    return Screened(
        attention=_named(s.attention for s in sublayers),
        mlp=_named(s.mlp for s in sublayers),
        sum=", ".join(sorted(kinds)),
        rows=path(loaded),
        tree=may_branch(loaded, [Row(prompts[1], 1)]),
        reads=_reads(loaded, prompts),
        adds=_adds(loaded, prompts),
        steers=_steers(loaded, prompts, seed),
        idle=_idle(loaded, prompts, seed),
        decodes=_decodes(loaded, prompts, seed),
        scores=_scores(loaded, prompts),
    )


def screen_families(names: Sequence[str] | None = None) -> list[dict]:
    """One record a family of `data/families.yaml`: `family`, `outcome` (passed, failed or refused), `why`
    it was refused, and what `screen` found."""
    records = []
    for name in names or families():
        try:
            loaded = tiny_model(tiny_config(name), name)
            loaded.abilities["warned"] = True  # `rows` says it
            found = screen(loaded)
        except ModelError as error:
            records.append({"family": name, "outcome": "refused", "why": str(error)})
        else:
            outcome = "passed" if found.passed else "failed"
            records.append({"family": name, "outcome": outcome, "why": "", **found.as_dict()})
    return records


def screen_table(records: Sequence[dict]) -> pd.DataFrame:
    """The records in few words: what a block adds, how rows go, whether likelihoods share a tree."""
    return pd.DataFrame(
        [
            {
                "family": r["family"],
                "block adds": r.get("sum", "--"),
                "rows": r.get("rows", "--"),
                "tree": {True: "yes", False: "no", None: "--"}[r.get("tree")],
                "outcome": r["outcome"],
            }
            for r in records
        ]
    )


def _named(paths) -> str:
    return ", ".join(sorted({path or "none" for path in paths}))


def _prompts(loaded: LoadedModel, seed: int) -> list[tuple[int, ...]]:
    """Two with a common beginning, of different lengths, and one of its own."""
    rng = np.random.default_rng(seed)
    top = min(250, loaded.model.config.get_text_config().vocab_size)

    def some(n: int) -> tuple[int, ...]:
        return tuple(rng.integers(3, top, n).tolist())

    start = some(10)
    return [start + some(2), start + some(9), some(5)]


def _vector(loaded: LoadedModel, seed: int) -> np.ndarray:
    return np.float32(np.random.default_rng(seed + 1).normal(size=loaded.width))


@torch.inference_mode()
def _plain(loaded: LoadedModel, ids: Sequence[int], **more):
    tokens = torch.tensor([list(ids)], device=loaded.device)
    return loaded.model(input_ids=tokens, use_cache=False, **more)


def _close(a, b) -> bool:
    a, b = (
        x.float().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (a, b)
    )
    return a.shape == b.shape and bool(np.abs(a - b).max() <= CLOSE * max(np.abs(b).max(), 1e-6))


def _reads(loaded: LoadedModel, prompts) -> bool:
    sites = [Site(layer) for layer in range(loaded.n_layers)]
    found = capture_sites(loaded, [Prompt(ids) for ids in prompts], sites)
    for row, ids in enumerate(prompts):
        states = _plain(loaded, ids, output_hidden_states=True).hidden_states
        # Some families (Mamba) leave out the embeddings, with which the list begins elsewhere.
        first = 0 if _close(found[sites[0]][row], states[0][0, -1]) else 1
        for site in sites[:-1]:
            if not _close(found[site][row], states[site.layer + first][0, -1]):
                return False
        last = torch.from_numpy(found[sites[-1]][row]).to(loaded.device, loaded.dtype)
        if not _is_final(loaded, last, states[-1][0, -1]):
            return False
    return True


@torch.inference_mode()
def _is_final(loaded: LoadedModel, captured: torch.Tensor, state: torch.Tensor) -> bool:
    """Whether transformers' last hidden state is the captured one, as it is or after the final norm."""
    inside = {id(m) for block in loaded.hooks.blocks for m in block.modules()}
    norms = [
        m for m in loaded.model.modules() if id(m) not in inside and "Norm" in type(m).__name__
    ]
    return _close(captured, state) or any(_close(norm(captured[None])[0], state) for norm in norms)


def _adds(loaded: LoadedModel, prompts) -> bool | None:
    """Whether blocks with a plain sum add their attention and MLP, read by capture."""
    layers = [
        i for i, s in enumerate(loaded.hooks.sublayers) if i and s.sum == "plain" and s.attention
    ]
    if not layers:
        return None
    wanted = [
        ("attention", "mlp") if loaded.hooks.sublayers[i].mlp else ("attention",) for i in layers
    ]
    sites = {Site(i, c) for i, parts in zip(layers, wanted, strict=True) for c in parts}
    sites |= {Site(k) for i in layers for k in (i - 1, i)}
    found = capture_sites(loaded, [Prompt(ids) for ids in prompts], sorted(sites))
    return all(
        _close(found[Site(i - 1)] + sum(found[Site(i, c)] for c in parts), found[Site(i)])
        for i, parts in zip(layers, wanted, strict=True)
    )


@contextmanager
def _seen(modules: dict, rows: int):
    """What modules give, after every other hook: by key, as copies."""
    out: dict = {}

    def hook(key):
        return lambda _m, _a, output: out.update({key: block_output(output, rows).clone()})

    handles = [module.register_forward_hook(hook(key)) for key, module in modules.items()]
    try:
        yield out
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def _steers(loaded: LoadedModel, prompts, seed: int) -> bool:
    """At every component that the second block has: exactly α·v at the row's tokens but the first, and
    bit-identical everywhere else and before."""
    vector, layer = _vector(loaded, seed), 1
    rows = [prompts[0], prompts[0], prompts[0]]
    ids, mask, _ = pad_left(rows, 0, loaded.device)
    sublayers = loaded.hooks.sublayers[layer]
    for component in COMPONENTS:
        if component != "residual" and getattr(sublayers, component) is None:
            continue
        site = loaded.hooks.module(layer, component)
        modules = {"site": site, "before": loaded.hooks.blocks[layer - 1]}

        def passed(steers, modules=modules) -> dict:
            with RowSteering(loaded, steers) as steering, _seen(modules, len(rows)) as seen:
                steering.begin_prompt(mask)
                loaded.model(input_ids=ids, use_cache=False)
            return seen

        plain = passed([()] * 3)
        steered = passed([(), (Steer(vector, layer, 1.5, component=component),), ()])
        want = plain["site"].clone()
        want[1, 1:] += torch.from_numpy(1.5 * vector).to(want)
        if not (
            torch.equal(steered["before"], plain["before"]) and torch.equal(steered["site"], want)
        ):
            return False
    return True


@torch.inference_mode()
def _idle(loaded: LoadedModel, prompts, seed: int) -> bool:
    ids = torch.tensor([prompts[1]], device=loaded.device)
    plain = _plain(loaded, prompts[1]).logits
    with RowSteering(loaded, [(Steer(_vector(loaded, seed), 1, 0.0),)]) as steering:
        steering.begin_prompt(torch.ones_like(ids))
        return torch.equal(plain, loaded.model(input_ids=ids, use_cache=False).logits)


def _decodes(loaded: LoadedModel, prompts, seed: int) -> bool:
    """Four places for six rows, half of them steered."""
    vector = _vector(loaded, seed)
    doses = (0.0, 1.0)
    requests = [Request(ids, (Steer(vector, 1, dose),)) for dose in doses for ids in prompts]
    found = generate(loaded, requests, NEW_TOKENS, rows_per_batch=4)
    return all(
        answer.text == _plain_answer(loaded, request.ids, request.steers[0])
        for request, answer in zip(requests, found, strict=True)
    )


def _plain_answer(loaded: LoadedModel, prompt: Sequence[int], steer: Steer) -> str:
    delta = torch.from_numpy(steer.coefficient * steer.vector).to(loaded.device, loaded.dtype)

    def add(_module, _inputs, output):
        hidden = block_output(output, 1).clone()
        hidden[:, 1:] += delta
        return replace_output(output, hidden)

    ids = list(prompt)
    handle = loaded.hooks.blocks[steer.layer].register_forward_hook(add)
    try:
        for _ in range(NEW_TOKENS):
            token = int(_plain(loaded, ids).logits[0, -1].argmax())
            if token in loaded.stop_ids:
                break
            ids.append(token)
    finally:
        handle.remove()
    return loaded.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()


def _scores(loaded: LoadedModel, prompts) -> bool:
    """Four answers to two prompts with a common beginning: a tree where the model allows it."""
    answers = [prompts[2][:3], prompts[2]]
    rows = [(prompt, answer) for prompt in prompts[:2] for answer in answers]
    found = log_likelihoods(loaded, *zip(*rows, strict=True))
    want = []
    for prompt, answer in rows:
        logits = _plain(loaded, (*prompt, *answer)).logits[0, len(prompt) - 1 : -1].float()
        scores = torch.log_softmax(logits, dim=-1)
        want.append(
            float(scores.gather(1, torch.tensor(answer, device=scores.device)[:, None]).sum())
        )
    return _close([total for total, _ in found], want)
