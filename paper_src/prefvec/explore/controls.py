"""What the reader chooses: models, trait, method, layers, dose, question."""

import ipywidgets as widgets

from prefvec.explore.look import card, classed, html, markup, wide
from prefvec.explore.session import METHODS, Choice, Start
from prefvec.models.architecture import matching_layer
from prefvec.report.figures import label
from prefvec.traits import Poles
from prefvec.transfer.sweep import ORACLE

LABELS = {ORACLE: "target's own vector (the reference)"}
EXAMPLE = "examples …"
MAX_DOSE = 4.0


class Controls:
    """The left column. `choice` is what stands there now."""

    def __init__(self, models: list[str], source: str, target: str, method: str, limit: int):
        self.source = self._menu("source", models, source, "pv-source")
        self.target = self._menu("target", models, target, "pv-target")
        self.trait = self._menu("trait", [], None, "pv-trait")
        methods = [(LABELS.get(name, label(name)), name) for name in METHODS]
        self.method = self._menu("method", methods, method, "pv-method")
        self.layer_source = self._slider(widgets.IntSlider, "read at", 0, 1, 1, "pv-read")
        self.layer_target = self._slider(widgets.IntSlider, "write at", 0, 1, 1, "pv-write")
        self.dose = self._slider(
            widgets.FloatSlider, "dose", -MAX_DOSE, MAX_DOSE, 0.25, "pv-dose", readout_format="+.2f"
        )
        self.depths, self.towards = markup(), markup()
        self.examples = self._menu("", [EXAMPLE], EXAMPLE, "pv-examples")
        self.question = classed(
            widgets.Textarea(placeholder="Ask anything", layout=wide(height="76px", margin="0")),
            "pv-question",
        )
        self.limit = self._slider(widgets.IntSlider, "tokens", 8, 200, 8, "pv-limit")
        self.limit.value = limit
        self.poles = Poles()
        self._start: Start | None = None
        self.dose.observe(self._tell_dose, "value")
        self.layer_source.observe(self._follow, "value")
        self.layer_target.observe(self._tell_layers, "value")
        self.examples.observe(self._ask_example, "value")
        self.box = widgets.VBox(
            [
                card(markup("<h2>Models and trait</h2>"), self.source, self.target, self.trait),
                card(
                    markup("<h2>Vector</h2>"), self.method, self.layer_source, self.layer_target,
                    self.depths, self.dose, self.towards,
                ),
                card(markup("<h2>Question</h2>"), self.examples, self.question, self.limit),
            ],
            layout=widgets.Layout(grid_gap="8px"),
        )  # fmt: skip

    @property
    def choice(self) -> Choice:
        """What is chosen now."""
        return Choice(
            self.source.value, self.target.value, self.trait.value, self.method.value,
            self.layer_source.value, self.layer_target.value, self.dose.value, self.question.value,
            self.limit.value,
        )  # fmt: skip

    def begin(self, start: Start) -> None:
        """Set the sliders for a pair and trait."""
        self._start = None  # the target's layer is given: it must not follow the source's
        self.layer_source.max, self.layer_target.max = start.n_source - 1, start.n_target - 1
        self.layer_source.value, self.layer_target.value = start.layer_source, start.layer_target
        self.dose.value = start.dose
        self._start = start
        self._tell_layers()

    def offer(self, questions: list[str], poles: Poles) -> None:
        """The trait's example questions and what its ends are called; the first fills an empty field."""
        self.examples.options = [EXAMPLE, *questions]
        self.poles = poles
        self._tell_dose()
        if not self.question.value.strip() and questions:
            self.question.value = questions[0]

    def _follow(self, _change) -> None:
        if self._start:
            self.layer_target.value = matching_layer(
                self.layer_source.value, self._start.n_source, self._start.n_target
            )
        self._tell_layers()

    def _tell_layers(self, _change=None) -> None:
        if self._start is None:
            return
        a, b = self.layer_source, self.layer_target
        self.depths.value = html(
            '<div class="pv-note" style="margin-left:62px">source block {a}, depth {p} %<br>'
            "target block {b}, depth {q} %</div>",
            a=a.value, p=round(100 * a.value / max(1, a.max)),
            b=b.value, q=round(100 * b.value / max(1, b.max)),
        )  # fmt: skip

    def _tell_dose(self, _change=None) -> None:
        dose = self.dose.value
        pole = self.poles.positive if dose > 0 else self.poles.negative
        words = (
            "no steering"
            if dose == 0
            else f"towards {pole}, {abs(dose):g} × the own vector's length"
        )
        self.towards.value = html(
            '<div class="pv-note" style="margin-left:62px">{words}</div>', words=words
        )

    def _ask_example(self, change) -> None:
        if change["new"] and change["new"] != EXAMPLE:
            self.question.value = change["new"]

    @staticmethod
    def _menu(name: str, options: list, value, css: str) -> widgets.Dropdown:
        menu = widgets.Dropdown(
            options=options, value=value, description=name, layout=wide(),
            style={"description_width": "56px"} if name else {"description_width": "0px"},
        )  # fmt: skip
        return classed(menu, css)

    @staticmethod
    def _slider(kind, name: str, low, high, step, css: str, **more):
        slider = kind(
            value=low, min=low, max=high, step=step, description=name, continuous_update=False,
            layout=wide(), style={"description_width": "56px"}, **more,
        )  # fmt: skip
        return classed(slider, css)
