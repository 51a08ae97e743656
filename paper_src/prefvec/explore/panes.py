"""The four answers: each model without and with its vector."""

import threading
import time

import ipywidgets as widgets

from prefvec.explore.look import classed, html, markup
from prefvec.explore.session import PANES, Choice
from prefvec.generation import Generation
from prefvec.metrics.coherence import is_collapsed
from prefvec.report.figures import label

PACE = 0.08  # seconds between two updates of a growing text
EMPTY = "not written yet"


class Panes:
    """Two rows of two texts; `show` may be called from any thread."""

    def __init__(self):
        self._views = {}
        self._lock = threading.Lock()
        self._growing: dict[str, str] = {}
        self._last = dict.fromkeys(PANES, 0.0)
        self._heads = dict.fromkeys(PANES, ("", ""))
        for pane in PANES:
            view = classed(markup(), f"pv-{pane.replace('_', '-')}")
            self._views[pane] = view
        self.box = widgets.GridBox(
            list(self._views.values()),
            layout=widgets.Layout(
                grid_template_columns="minmax(0,1fr) minmax(0,1fr)", grid_gap="8px", width="100%"
            ),
        )

    def name(self, source: str, target: str) -> None:
        """Empty panes of a pair."""
        for pane in PANES:
            model = target if pane.startswith("target") else source
            self._heads[pane] = model, "steered" if pane.endswith("steered") else "unsteered"
            self._draw(pane, "", EMPTY)

    def begin(self, choice: Choice) -> None:
        """Empty panes headed by what is about to be written."""
        at = f"dose {choice.dose:+g}"
        self._heads = {
            "target_plain": (choice.target, "unsteered"),
            "target_steered": (
                choice.target, f"{label(choice.method)} · block {choice.layer_target} · {at}"
            ),
            "source_plain": (choice.source, "unsteered"),
            "source_steered": (
                choice.source, f"its own vector · block {choice.layer_source} · {at}"
            ),
        }  # fmt: skip
        for pane in PANES:
            self._draw(pane, "…")

    def show(self, pane: str, text: str) -> None:
        """A text as far as it is written; too quick ones are left out."""
        now, self._growing[pane] = time.monotonic(), text
        if now - self._last[pane] >= PACE:
            self._last[pane] = now
            self._draw(pane, text, "writing …")

    def finish(self, pane: str, answer: Generation) -> None:
        """A text that has ended."""
        self._growing.pop(pane, None)
        foot = f"{answer.n_tokens} tokens, "
        foot += "cut at the limit" if answer.finish == "length" else "ended by the model"
        warn = "breaks down: empty, repeats itself, or hardly words"
        self._draw(pane, answer.text, foot, warn if is_collapsed(answer.text) else "")

    def end(self) -> None:
        """Say of texts that have not ended that they will not."""
        for pane, text in self._growing.items():
            self._draw(pane, text, "stopped")
        self._growing = {}

    def _draw(self, pane: str, text: str, foot: str = "", warning: str = "") -> None:
        model, how = self._heads[pane]
        kind = "pv-card pv-steered" if pane.endswith("steered") else "pv-card"
        with self._lock:
            self._views[pane].value = html(
                f'<div class="{kind}"><div class="pv-head"><b>{{model}}</b><span>{{how}}</span></div>'
                '<div class="pv-text">{text}</div><div class="pv-foot">{foot} <em>{warning}</em></div></div>',
                model=model, how=how, text=text, foot=foot, warning=warning,
            )  # fmt: skip
