"""Tables for LaTeX: pandas in, booktabs and siunitx out, everything escaped."""

from pathlib import Path

import numpy as np
import pandas as pd

from prefvec.errors import ReportError
from prefvec.stats import Estimate
from prefvec.store import write_text

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "λ": r"$\lambda$", "→": r"$\rightarrow$",
    "−": r"$-$", "²": r"$^2$", "≥": r"$\geq$", "×": r"$\times$", "α": r"$\alpha$", "–": "--",
}  # fmt: skip


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, whatever characters it holds; control characters are spaces."""
    return "".join(_SPECIAL.get(c, c if c.isprintable() else " ") for c in str(text))


def interval_text(estimate: Estimate, digits: int = 2, scale: float = 1.0) -> str:
    """`value [low, high]` in maths mode, without negative zeros; a dash where it is undefined."""
    text = Estimate(*(scale * x for x in estimate)).in_words(digits)
    spaced = text.replace(" [", "\\;[").replace(", ", ",\\,")
    return text if text == "--" else f"${spaced}$"


def write_table(frame: pd.DataFrame, path: Path, align: str | None = None) -> Path:
    """Write a booktabs `tabular` (without the float around it).

    Strings are escaped unless they are maths written by `interval_text`; numbers must have been
    formatted by the caller. Column names are escaped too; a line break in one is a line break.
    """
    spec = align or "l" + "r" * (frame.shape[1] - 1)
    if len(spec) != frame.shape[1]:
        raise ReportError(f"table {path.stem}: {frame.shape[1]} columns, but align is '{spec}'")
    lines = [rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}", r"\toprule"]
    lines.append(" & ".join(_header(c) for c in frame.columns) + r" \\")
    lines.append(r"\midrule")
    for row in frame.itertuples(index=False):
        lines.append(" & ".join(_cell(value) for value in row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return write_text(path, "\n".join(lines) + "\n")


def _header(text: object) -> str:
    lines = [escape(line) for line in str(text).split("\n")]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r" \\ ".join(lines) + "}"


def _cell(value: object) -> str:
    if isinstance(value, Estimate):
        return interval_text(value)
    if isinstance(value, (int, np.integer)):
        return rf"\num{{{value}}}"
    if isinstance(value, (float, np.floating)):
        return "--" if not np.isfinite(value) else rf"\num{{{value:z.2f}}}"
    text = str(value)
    return text if text.startswith("$") and text.endswith("$") or text == "--" else escape(text)
