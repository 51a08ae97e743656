"""The form that makes a trait from two sentences."""

from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from prefvec.errors import PrefvecError
from prefvec.explore import custom
from prefvec.explore.look import card, classed, html, markup, wide

FIELDS = {
    "name": ("name", "poetic"),
    "positive": ("ask for it", "Answer like a poet, in images and rhythm."),
    "negative": ("opposite", "Answer like a manual, in plain facts."),
}


class Maker:
    """Name, two instructions, a button. `made(path)` is called with each new trait file; `pair()` gives the
    source and target that the commands shown are for."""

    def __init__(
        self, folder: Path, made: Callable[[Path], None], pair: Callable[[], tuple[str, str]]
    ):
        self._folder, self._made, self._pair = folder, made, pair
        self._fields, self._errors, rows = {}, {}, []
        for field, (name, example) in FIELDS.items():
            make = widgets.Text if field == "name" else widgets.Textarea
            layout = wide() if field == "name" else wide(height="54px")
            entry = make(
                placeholder=example, description=name, layout=layout,
                style={"description_width": "70px"},
            )  # fmt: skip
            self._fields[field] = classed(entry, f"pv-make-{field}")
            self._errors[field] = classed(markup(), f"pv-bad-{field}")
            rows += [entry, self._errors[field]]
        self.button = classed(
            widgets.Button(description="Save the trait", button_style="info"),
            "pv-make",
        )
        self.button.on_click(self._save)
        self._result = classed(markup(), "pv-made")
        explained = markup(
            "<h2>Make a trait from two sentences</h2><p>Two instructions that differ in the trait alone. The "
            "vector is what changes in the model between them. A base model (Gemma) needs examples "
            "in the file too: see data/README.md.</p>"
        )
        self.box = card(explained, *rows, self.button, self._result)

    def _save(self, _button) -> None:
        """Check every field, save, and show what to do with the file."""
        name, positive, negative = (self._fields[f].value for f in FIELDS)
        name = name.strip()
        found = custom.problems(name, positive, negative, self._folder)
        self._tell(found)
        self._result.value = ""
        if found:
            return
        try:
            path = custom.save(name, positive, negative, self._folder)
        except (PrefvecError, OSError) as error:
            self._tell({"name": str(error)})
            return
        lines = "".join(
            html('<div class="pv-code">{line}</div>', line=line)
            for line in custom.commands(path, *self._pair())
        )
        saved = html(
            "<p>Saved as <b>{path}</b> and picked above: press Steer. The whole study for it, and one "
            "notebook:</p>",
            path=path,
        )
        self._result.value = saved + lines
        self._made(path)

    def _tell(self, problems: dict[str, str]) -> None:
        for field, view in self._errors.items():
            text = problems.get(field, "")
            view.value = html(
                '<div class="pv-error" style="margin-left:78px">{text}</div>', text=text
            )
