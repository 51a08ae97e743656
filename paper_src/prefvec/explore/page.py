"""The page: controls, four answers, two plots, a form for a new trait. What it shows, `session` computes."""

from pathlib import Path

import ipywidgets as widgets
import pandas as pd
from IPython.display import display

from prefvec.errors import PrefvecError
from prefvec.explore import curves, plots
from prefvec.explore.controls import Controls
from prefvec.explore.look import STYLE, classed, html, markup
from prefvec.explore.maker import Maker
from prefvec.explore.panes import Panes
from prefvec.explore.session import Choice, Session, Start
from prefvec.explore.worker import Status, Worker
from prefvec.metrics.trait import UNITS
from prefvec.traits import load_trait

READY = (
    "Ready. The first press reads prompts in both models: about a minute; after that it is quick."
)


class Page:
    """One reader's page; `show()` displays it. Nothing is computed before it is asked for."""

    def __init__(self, session: Session, method: str = "ridge_concept"):
        self.session = session
        s = session.settings
        self.controls = Controls(session.models(), s.source, s.target, method, s.max_new_tokens)
        self.panes = Panes()
        self.worker = Worker(self._report)
        self.maker = Maker(session.folder, self._made, self._pair)
        self._start: Start | None = None
        self._listing = False  # the menu of traits is being filled
        self._computed: dict[str, tuple[tuple, pd.DataFrame]] = {}
        self.steer = self._button("▶ Steer", "primary", "pv-steer", self._steer)
        self.stop = self._button("■ Stop", "", "pv-stop", lambda _: self.worker.stop())
        self.sweep = self._button("Compute", "", "pv-sweep", self._sweep)
        self.angles = self._button("Compute", "", "pv-angles", self._angles)
        self.bar = widgets.FloatProgress(
            max=1.0, layout=widgets.Layout(width="auto", height="14px")
        )
        self.status = classed(markup(), "pv-status")
        self.dose_plot, self.cosine_plot = (
            classed(widgets.Image(format="png", layout=widgets.Layout(width="100%")), css)
            for css in ("pv-dose-plot", "pv-cosine-plot")
        )
        self.box = self._laid_out()
        self._list_traits(s.trait)
        self._observe()

    def show(self) -> None:
        """Display the page, and find out how deep the models are."""
        self.panes.name(*self._pair())
        display(self.box)
        self._changed()

    # --- what the reader does ---

    def _steer(self, _button) -> None:
        choice = self.controls.choice

        def work(worker: Worker) -> str:
            self.session.check(choice)
            self._load(choice, worker)
            worker.say("finding the vector and carrying it over …")
            self.session.direction(choice)
            worker.say("writing …")
            self.panes.begin(choice)

            def show(pane: str, text: str) -> None:
                worker.check()
                self.panes.show(pane, text)

            try:
                for pane, answer in self.session.compare(choice, show):
                    self.panes.finish(pane, answer)
            finally:
                self.panes.end()
            return "done: change a slider and press Steer again"

        self.worker.start("loading the models …", work)

    def _sweep(self, _button) -> None:
        choice = self.controls.choice

        def work(worker: Worker) -> str:
            self._load(choice, worker)
            for scores in curves.dose_curve(self.session, choice):
                self._computed["dose"] = self._key(choice), scores
                self._draw_dose()
                worker.check()
            return "dose–response computed"

        self.worker.start("loading the models …", work)

    def _angles(self, _button) -> None:
        choice = self.controls.choice

        def work(worker: Worker) -> str:
            self._load(choice, worker)
            found = curves.cosine_curve(
                self.session, choice,
                lambda done, of: worker.say(f"fitting maps: layer {done + 1} of {of}", done / of),
            )  # fmt: skip
            for table in found:
                self._computed["cosine"] = self._key(choice), table
                self._draw_cosine()
            return "cosines computed"

        self.worker.start("loading the models …", work)

    def _load(self, choice: Choice, worker: Worker) -> None:
        study = self.session.study(choice.source, choice.target, choice.trait)
        for name in dict.fromkeys((choice.source, choice.target)):
            worker.say(f"loading {name} (the first time ever it is fetched) …")
            study.pool.get(name)

    def _made(self, path: Path) -> None:
        self._list_traits(str(path))
        self._changed()

    def _pair(self) -> tuple[str, str]:
        return self.controls.source.value, self.controls.target.value

    # --- what follows from it ---

    def _observe(self) -> None:
        for menu in (self.controls.source, self.controls.target, self.controls.trait):
            menu.observe(self._changed, "value")
        for control in (self.controls.method, self.controls.dose, self.controls.layer_target):
            control.observe(self._draw, "value")

    def _changed(self, _change=None) -> None:
        """Another pair or trait: examples, depths, where the sliders begin, saved results."""
        if self.worker.busy or self._listing:
            return
        source, target, trait = *self._pair(), self.controls.trait.value
        try:
            self.controls.offer(self.session.questions(trait), load_trait(trait).poles)
        except PrefvecError as error:
            self._report(Status(False, str(error), error=True))
            return

        def work(_worker: Worker) -> str:
            start, self._start = self.session.start(source, target, trait), None
            self.controls.begin(start)  # moves sliders: nothing is drawn before they are all set
            self._start = start
            self._draw()
            return READY

        self.worker.start("looking up the models …", work)

    def _draw(self, _change=None) -> None:
        if self._start is not None:
            self._draw_dose()
            self._draw_cosine()

    def _draw_dose(self) -> None:
        choice, trait = self.controls.choice, load_trait(self.controls.trait.value)
        key, scores = self._computed.get("dose", (None, None))
        saved = self.session.saved(choice.source, choice.target, choice.trait)
        unit = f"{trait.name} score ({UNITS[trait.measure]})"
        if key == self._key(choice):
            layers = f"blocks {choice.layer_source} → {choice.layer_target}"
            title = f"computed here: {curves.N_QUESTIONS} questions, {layers}"
        elif saved:
            scores, layers = saved.scores, f"blocks {saved.layer_source} → {saved.layer_target}"
            title = f"saved run ({self.session.results}): {saved.n} questions, {layers}"
        else:
            self.dose_plot.value = plots.empty_plot(_MISSING)
            return
        poles, dose = trait.poles, choice.dose
        self.dose_plot.value = plots.dose_plot(scores, unit, title, choice.method, dose, poles)

    def _draw_cosine(self) -> None:
        choice, width = self.controls.choice, self._start.width
        key, table = self._computed.get("cosine", (None, None))
        saved = self.session.saved(choice.source, choice.target, choice.trait)
        if key == self._key(choice):
            layers = choice.layer_source, choice.layer_target
            here = saved and layers == (saved.layer_source, saved.layer_target)
            self.cosine_plot.value = plots.cosine_layers_plot(
                table, "computed here: cosine to the target's own vector", choice.method,
                choice.layer_target, width, saved.cosines.get(choice.method) if here else None,
            )  # fmt: skip
        elif saved:
            layers = f"blocks {saved.layer_source} → {saved.layer_target}"
            title = f"saved run ({self.session.results}): {layers}"
            self.cosine_plot.value = plots.cosine_methods_plot(
                saved.cosines, title, choice.method, width
            )
        else:
            self.cosine_plot.value = plots.empty_plot(_MISSING)

    def _key(self, choice: Choice) -> tuple:
        """What a computed plot is of."""
        digest, layers = load_trait(choice.trait).digest, (choice.layer_source, choice.layer_target)
        return choice.source, choice.target, digest, choice.method, *layers

    def _report(self, status: Status) -> None:
        css = "pv-error" if status.error else "pv-note"
        self.status.value = html('<div class="{css}">{text}</div>', css=css, text=status.text)
        self.bar.value = status.share if status.share is not None else float(not status.busy)
        self.bar.bar_style = "danger" if status.error else ("info" if status.busy else "success")
        self.stop.disabled = not status.busy
        for button in (self.steer, self.sweep, self.angles, self.maker.button):
            button.disabled = status.busy
        for menu in (self.controls.source, self.controls.target, self.controls.trait):
            menu.disabled = status.busy

    def _list_traits(self, chosen: str) -> None:
        options = list(self.session.traits().items())
        self._listing = True
        self.controls.trait.options = options
        self.controls.trait.value = chosen
        self._listing = False

    # --- how it is laid out ---

    def _laid_out(self) -> widgets.Widget:
        buttons = widgets.HBox([self.steer, self.stop])
        left = widgets.VBox(
            [self.controls.box, buttons, self.bar, self.status],
            layout=widgets.Layout(width="352px", flex="0 0 352px", grid_gap="6px"),
        )
        plot_boxes = [
            self._plot("Dose–response", self.dose_plot, self.sweep),
            self._plot("Cosine to the target's own vector", self.cosine_plot, self.angles),
        ]  # fmt: skip
        halves = widgets.Layout(
            grid_template_columns="minmax(0,1fr) minmax(0,1fr)", grid_gap="8px", width="100%"
        )
        right = widgets.VBox(
            [self.panes.box, widgets.GridBox(plot_boxes, layout=halves), self.maker.box],
            layout=widgets.Layout(flex="1 1 0", min_width="0", grid_gap="8px"),
        )
        body = widgets.HBox([left, right], layout=widgets.Layout(grid_gap="12px"))
        style = widgets.HTML(STYLE, layout=widgets.Layout(height="0", margin="0"))
        return classed(widgets.VBox([style, body]), "pv")

    @staticmethod
    def _plot(title: str, image: widgets.Image, button: widgets.Button) -> widgets.VBox:
        head = widgets.HBox(
            [markup("<h2>{title}</h2>", title=title), button],
            layout=widgets.Layout(justify_content="space-between", align_items="center"),
        )
        return classed(widgets.VBox([head, image]), "pv-card", "pv-plot")

    @staticmethod
    def _button(text: str, style: str, css: str, pressed) -> widgets.Button:
        button = widgets.Button(description=text, button_style=style)
        button.on_click(pressed)
        return classed(button, css)


_MISSING = "This cell has no saved run.\nPress “Compute” to find out."
