"""What a figure was drawn from, as JSON, so that it can be drawn again without a model.

Tables are kept column by column with their types, so that what is read back is what was drawn: numbers
that JSON can't hold (NaN, infinity) and Python's own types (tuples, arrays, named tuples) are written as
an object with one key that begins with `$`.
"""

import importlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from prefvec.errors import ReportError
from prefvec.store import read_json, write_text

FOLDER = "figures"  # of a run's results
RECORDS = {  # named tuples and where they are; imported when a figure has them
    "Estimate": "prefvec.stats",
    "Attribution": "prefvec.diagnostics.factorial",
    "Angles": "prefvec.diagnostics.spaces",
    "Calibrated": "prefvec.diagnostics.spaces",
    "Shared": "prefvec.diagnostics.spaces",
    "Spaces": "prefvec.diagnostics.basis",
    "Fitness": "prefvec.judge.agreement",
}


def write_figure_data(
    folder: Path, name: str, notebook: str, function: Callable[..., plt.Figure], arguments: tuple
) -> Path:
    """Write `figures/<name>.json` in a run's folder: who drew, with which function, from what."""
    record = {
        "notebook": notebook,
        "function": f"{function.__module__}:{function.__qualname__}",
        "arguments": [encoded(a) for a in arguments],
    }
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return write_text(folder / FOLDER / f"{name}.json", text + "\n")


def drawn_again(path: Path) -> plt.Figure:
    """The figure that a file of `write_figure_data` tells of.

    Raises ReportError naming the file if it is damaged, or names anything but a function of
    `prefvec.report` that gives a figure.
    """
    record = read_json(path)
    try:
        module, _, name = record["function"].partition(":")
        arguments = [decoded(a) for a in record["arguments"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{path}: no figure data ({error}): run its notebook again") from error
    function = None
    if module.startswith("prefvec.report."):
        function = getattr(importlib.import_module(module), name, None)
    if not inspect.isfunction(function) or (
        inspect.signature(function).return_annotation is not plt.Figure
    ):
        raise ReportError(f"{path}: {record['function']} draws no figure of this version")
    return function(*arguments)


def encoded(value):
    """A value of a figure's arguments as JSON (see the module's text)."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, pd.DataFrame):
        return {
            "$table": {
                "index": _series(value.index),
                "columns": _columns(value),
                "columns_name": encoded(value.columns.name),
            }
        }
    if isinstance(value, np.ndarray):
        return {"$array": [encoded(v) for v in value.tolist()], "dtype": str(value.dtype)}
    if RECORDS.get(type(value).__name__) == type(value).__module__:
        return {f"${type(value).__name__}": {k: encoded(v) for k, v in value._asdict().items()}}
    if isinstance(value, (tuple, frozenset)):
        kind = "$tuple" if isinstance(value, tuple) else "$set"
        return {kind: [encoded(v) for v in (value if kind == "$tuple" else sorted(value))]}
    if isinstance(value, list):
        return [encoded(v) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) and k[:1] != "$" for k in value):
        return {k: encoded(v) for k, v in value.items()}
    raise TypeError(f"a figure can't be drawn again from a {type(value).__name__}: give it plainly")


def decoded(value):
    """What `encoded` was given."""
    if isinstance(value, list):
        return [decoded(v) for v in value]
    if not isinstance(value, dict):
        return value
    kind = next((k for k in value if k.startswith("$")), "")
    content = value.get(kind)
    match kind:
        case "":
            return {k: decoded(v) for k, v in value.items()}
        case "$float":
            return float(content)
        case "$tuple":
            return tuple(decoded(content))
        case "$set":
            return frozenset(decoded(content))
        case "$array":
            return np.array(decoded(content), dtype=value["dtype"])
        case "$table":
            return _table(content)
        case _:
            record = getattr(importlib.import_module(RECORDS[kind[1:]]), kind[1:])
            return record(**decoded(content))


def _columns(table: pd.DataFrame) -> list[dict]:
    return [
        {"name": encoded(name), **_series(table.iloc[:, i])} for i, name in enumerate(table.columns)
    ]


def _series(values: pd.Series | pd.Index) -> dict:
    name = {"name": values.name} if isinstance(values, pd.Index) and values.name else {}
    return {**name, "dtype": str(values.dtype), "values": [encoded(v) for v in values.tolist()]}


def _table(content: dict) -> pd.DataFrame:
    def series(part: dict) -> pd.Series:
        kind = "object" if part["dtype"] == "category" else part["dtype"]
        return pd.Series(decoded(part["values"]), dtype=kind)

    index = pd.Index(series(content["index"]), name=content["index"].get("name"))
    parts = {i: series(part).set_axis(index) for i, part in enumerate(content["columns"])}
    table = pd.DataFrame(parts, index=index)
    names = [decoded(part["name"]) for part in content["columns"]]
    table.columns = pd.Index(names, name=decoded(content.get("columns_name")))
    return table
