"""Where to read and write inside a decoder, found by what its modules do in one small pass.

Names differ from family to family; what a decoder does not: blocks hand a stream of the model's width from
one to the next, and each adds what its attention and its MLP give to it. Both are checked on four tokens.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Literal, NamedTuple

import torch
from torch import nn

from prefvec.errors import ModelError
from prefvec.models.registry import HookPaths

Component = Literal["residual", "attention", "mlp"]
COMPONENTS: tuple[Component, ...] = ("residual", "attention", "mlp")
SMALL = (5, 9, 6, 7)  # ids of the small pass
TOLERANCE = 1e-3  # of what a block adds; rounding of the model's own type comes on top


class Call(NamedTuple):
    """One call of a module in the small pass: the stream that it was given (None: no tensor of the
    stream's shape), what it gave, and whether it was given more than the stream."""

    given: torch.Tensor | None
    gave: torch.Tensor
    more: bool


class Sublayers(NamedTuple):
    """A block's attention (or what mixes tokens in its place) and its MLP, by path in the block; None
    where there is none. `sum` says what the block adds: `plain` attention + MLP, `normed` each after a
    norm of its own, `scaled` their sum times a constant, `unknown` something else or not looked at."""

    attention: str | None
    mlp: str | None
    sum: Literal["plain", "normed", "scaled", "unknown"] = "plain"


@dataclass(frozen=True)
class HookPoints:
    """The modules whose outputs are the residual stream, attention and MLP outputs by layer."""

    blocks: tuple[nn.Module, ...]
    model: nn.Module = field(repr=False)
    paths: HookPaths = HookPaths()

    def module(self, layer: int, component: Component = "residual") -> nn.Module:
        """The module to hook. Layer i is block i: its output is `hidden_states[i + 1]`
        (the last one before the final norm).

        `attention` and `mlp` are the sublayers' own outputs: before a norm or a constant that the block
        puts on them (`sublayers`). Raises ModelError where the block has no such sublayer.
        """
        if component not in COMPONENTS:
            raise ModelError(
                f"component '{component}' is unknown: use one of {', '.join(COMPONENTS)}"
            )
        if component == "residual":
            return self.blocks[layer]
        path = getattr(self.sublayers[layer], component)
        if path is None:
            block = self.blocks[layer]
            raise ModelError(
                f"block {layer} ({type(block).__name__}) adds no {component} output that could be told: "
                f"its modules are {tree(block)}; {_advice(component, 'a path in the block')}"
            )
        return self.blocks[layer].get_submodule(path)

    @property
    def components(self) -> tuple[Component, ...]:
        """What can be read and written in every block."""
        parts = [c for c in COMPONENTS[1:] if all(getattr(s, c) for s in self.sublayers)]
        return ("residual", *parts)

    @cached_property
    def sublayers(self) -> tuple[Sublayers, ...]:
        """The sublayers of every block; found when first asked for, by a pass over four tokens."""
        if self.paths.attention or self.paths.mlp:
            for path in filter(None, (self.paths.attention, self.paths.mlp)):
                for i, block in enumerate(self.blocks):
                    _submodule(block, path, f"block {i}")
            return (Sublayers(self.paths.attention, self.paths.mlp, "unknown"),) * len(self.blocks)
        return _find_sublayers(self.model, self.blocks)


def find_hook_points(model: nn.Module, paths: HookPaths | None = None) -> HookPoints:
    """The decoder blocks: the largest module list in which every module runs once and hands its output,
    `[rows, tokens, hidden_size]`, to the next. Raises ModelError with the module tree if none does."""
    paths = paths or HookPaths()
    if paths.blocks:
        lists = {paths.blocks: _submodule(model, paths.blocks, type(model).__name__)}
    else:
        lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    lists = {name: tuple(found.children()) for name, found in lists.items()}
    modules = {(name, i): module for name, found in lists.items() for i, module in enumerate(found)}
    with _recording(modules, width := _width(model)) as calls:
        _small_pass(model)
    chains = [
        found for name, found in lists.items() if _is_chain([calls[name, i] for i in range(len(found))])
    ]  # fmt: skip
    if not chains:
        raise ModelError(
            f"{type(model).__name__}: no list of blocks that hand on one stream of width {width} was found"
            f"{f' at {paths.blocks}' if paths.blocks else ''}: its modules are {tree(model)}; "
            + _advice("blocks", "the path of the list")
        )
    blocks = max(chains, key=lambda found: sum(p.numel() for m in found for p in m.parameters()))
    return HookPoints(blocks, model, paths)


def block_output(output: object, rows: int) -> torch.Tensor:
    """The activations `[rows, tokens, width]` in a module's output (a tensor, or first in a tuple);
    some modules give them as `[rows · tokens, width]`."""
    tensor = output if isinstance(output, torch.Tensor) else output[0]
    if isinstance(tensor, torch.Tensor) and tensor.ndim == 2 and len(tensor) % rows == 0:
        tensor = tensor.unflatten(0, (rows, -1))
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 3:
        shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ModelError(f"a hooked module gave {shape}, not [rows, tokens, width]")
    return tensor


def replace_output(output: object, tensor: torch.Tensor) -> object:
    """The module's output with its activations replaced."""
    if isinstance(output, torch.Tensor):
        return tensor.flatten(0, 1) if output.ndim == 2 else tensor
    return (replace_output(output[0], tensor), *output[1:])


def tree(module: nn.Module, depth: int = 2) -> str:
    """The module tree in one short line; of a list, its first module."""
    parts = []
    for name, child in module.named_children():
        inner = child
        if isinstance(child, nn.ModuleList) and len(child):
            name, inner = f"{name}[{len(child)}]", child[0]
        below = f" ({tree(inner, depth - 1)})" if depth > 1 and any(inner.children()) else ""
        parts.append(f"{name}: {type(inner).__name__}{below}")
    return ", ".join(parts) or "none"


def _advice(name: str, what: str) -> str:
    return f"say which it is in data/models.yaml, `hooks: {{{name}: …}}` ({what})"


def _submodule(module: nn.Module, path: str, where: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise ModelError(f"hooks: {where} has no module '{path}': it has {tree(module)}") from error


def _width(model: nn.Module) -> int:
    return model.config.get_text_config().hidden_size


def _small_pass(model: nn.Module) -> None:
    ids = torch.tensor([SMALL]) % model.config.get_text_config().vocab_size
    try:
        with torch.inference_mode():
            model(input_ids=ids.to(next(model.parameters()).device), use_cache=False)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        raise ModelError(
            f"{type(model).__name__}: a pass over four tokens failed ({str(error).splitlines()[0]}): "
            "it can't be used as a causal model of text"
        ) from error


@contextmanager
def _recording(modules: Mapping, width: int) -> Iterator[dict]:
    """Every call of these modules that gives the stream's shape, by key, as lists; keys are put in
    order of completion."""
    calls: dict = {}
    shapes = ((1, len(SMALL), width), (len(SMALL), width))

    def hook(key):
        def record(_module, args, kwargs, output) -> None:
            tensors = (*args, *kwargs.values())
            given = [t for t in tensors if isinstance(t, torch.Tensor) and t.shape in shapes]
            gave = output[0] if isinstance(output, (tuple, list)) and output else output
            call = None
            if isinstance(gave, torch.Tensor) and gave.shape in shapes:
                first = _copy(given[0]) if given else None
                call = Call(first, _copy(gave), len(given) < len(tensors))
            calls.setdefault(key, []).append(call)

        return record

    handles = [m.register_forward_hook(hook(k), with_kwargs=True) for k, m in modules.items()]
    try:
        yield (found := _Calls())
    finally:
        for handle in handles:
            handle.remove()
        found.update(calls)


def _copy(x: torch.Tensor) -> torch.Tensor:
    """A copy as `[1, tokens, width]`: a block may add in place later."""
    return x.clone() if x.ndim == 3 else x.reshape(1, -1, x.shape[-1]).clone()


class _Calls(dict):
    def __missing__(self, _key) -> list:
        return []


def _is_chain(calls: list[list[Call | None]]) -> bool:
    if not calls or any(len(found) != 1 or found[0] is None for found in calls):
        return False
    steps = [found[0] for found in calls]
    return all(
        b.given is not None and torch.equal(a.gave, b.given)
        for a, b in zip(steps, steps[1:], strict=False)
    )


def _find_sublayers(model: nn.Module, blocks: tuple[nn.Module, ...]) -> tuple[Sublayers, ...]:
    """By kind of block (the modules that it is made of): the two modules whose outputs it adds."""
    used = [m for block in blocks for m in {id(m): m for m in block.modules()}.values()]
    shared = {id(m) for m in used if sum(m is other for other in used) > 1}
    modules = {
        (i, path): module
        for i, block in enumerate(blocks)
        for path, module in block.named_modules()
        if id(module) not in shared
    }
    with _recording(modules, _width(model)) as calls:
        _small_pass(model)
    once = {k: found[0] for k, found in calls.items() if len(found) == 1 and found[0] is not None}
    kinds: dict[tuple, list[int]] = {}
    for i, block in enumerate(blocks):
        kind = tuple((path, type(module)) for path, module in block.named_modules())
        kinds.setdefault(kind, []).append(i)
    out: dict[int, Sublayers] = {}
    for kind, members in kinds.items():
        ran = [path for i, path in once if i == members[0]]  # in order of completion
        paths = [p for p in ran if all((i, p) in once for i in members)]
        steps = {
            p: Call(
                _stacked([once[i, p].given for i in members]),
                torch.cat([once[i, p].gave for i in members]).float(),
                once[members[0], p].more,
            )
            for p in paths
        }
        bare = {
            path
            for path, _ in kind
            if path in steps and all(p.ndim < 2 for p in modules[members[0], path].parameters())
        }
        eps = torch.finfo(next(model.parameters()).dtype).eps
        found = _terms(steps, bare, eps)
        out.update(dict.fromkeys(members, found))
    return tuple(out[i] for i in range(len(blocks)))


def _stacked(given: list[torch.Tensor | None]) -> torch.Tensor | None:
    return None if any(t is None for t in given) else torch.cat(given).float()


def _terms(steps: dict[str, Call], bare: set[str], eps: float) -> Sublayers:
    """The terms of `after = before + attention + mlp` among a block's modules (path "" is the block);
    `bare` modules have no matrix of their own (norms, dropout)."""
    block = steps[""]
    added = block.gave - block.given
    size = added.abs().median()
    allowed = TOLERANCE + 4 * eps * float(block.gave.abs().median() / size.clamp(min=1e-30))
    outer: list[str] = []  # of modules that give the same, the outermost
    for path in sorted(filter(None, steps), key=lambda p: p.count(".")):
        if not any(torch.equal(steps[path].gave, steps[p].gave) for p in outer):
            outer.append(path)
    order = [path for path in steps if path in outer]
    best = (float("inf"), (), "plain")
    for terms in (*((p,) for p in order), *combinations(order, 2)):
        total = sum(steps[p].gave for p in terms)
        factor = float((added * total).sum() / (total * total).sum().clamp(min=1e-30))
        for kind, scale in (("plain", 1.0), ("scaled", factor)):
            error = float((added - scale * total).abs().median() / size)
            if error < 0.5 * best[0]:
                best = (error, terms, kind)
    error, terms, kind = best
    if not error <= allowed:
        return Sublayers(None, None, "unknown")
    sources = [_before_norm(path, steps, bare, order) for path in terms]
    if any(a != b for a, b in zip(sources, terms, strict=True)):
        kind = "normed"
    if len(sources) == 1:  # only a module that mixes tokens is given a mask, positions or a cache
        [path] = sources
        mixes = any(steps[p].more for p in steps if p and (path == p or path.startswith(f"{p}.")))
        return Sublayers(path, None, kind) if mixes else Sublayers(None, path, kind)
    return Sublayers(*sources, kind)


def _before_norm(path: str, steps: dict[str, Call], bare: set[str], order: list[str]) -> str:
    """The module whose output a bare module was given; the path itself where it is no such module."""
    given = steps[path].given
    if path not in bare or given is None:
        return path
    return next((p for p in order if p != path and torch.equal(steps[p].gave, given)), path)
