"""How the page looks, and the one way in which text reaches it: escaped."""

from html import escape

import ipywidgets as widgets

STYLE = """<style>
.pv { --ink:#1f2933; --soft:#5f6c7b; --line:#d9dee5; --blue:#0b5cad; max-width:1360px; margin:0 auto;
  color:var(--ink); font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif; }
.pv h2 { font-size:13px; line-height:1.3; margin:2px 0 4px; font-weight:650; }
.pv p, .pv .pv-note { color:var(--soft); font-size:13px; line-height:1.45; margin:2px 0; }
.pv-card { border:1px solid var(--line); border-radius:8px; padding:10px 12px; background:#fff; }
.pv-head { display:flex; flex-direction:column; font-size:12.5px; line-height:1.4; }
.pv-head b { font-weight:650; } .pv-head span { color:var(--soft); }
.pv-text { white-space:pre-wrap; overflow-wrap:anywhere; font-size:14px; line-height:1.5; margin-top:6px;
  height:150px; overflow-y:auto; }
.pv-card.pv-steered { border-color:#9cc3ea; background:#f5f9fe; }
.pv-foot { color:var(--soft); font-size:12px; line-height:1.35; min-height:17px; margin-top:4px; }
.pv-foot em { color:#a1420b; font-style:normal; }
.pv-status { font-size:13px; line-height:1.4; min-height:36px; overflow-wrap:anywhere; }
.pv-error, .pv .pv-error { color:#a8201a; font-size:12.5px; line-height:1.35; }
.pv-code { font-family:ui-monospace,"DejaVu Sans Mono",monospace; font-size:12px; background:#f3f5f8;
  border-radius:5px; padding:6px 8px; margin:4px 0; overflow-wrap:anywhere; user-select:all; }
.pv .pv-plot img { max-width:100%; height:auto; display:block; }
.pv .widget-label { font-size:12.5px; }
.pv textarea, .pv input, .pv select { font-size:13px; }
</style>"""


def html(template: str, **texts: object) -> str:
    """Markup with texts in the places of its {names}: shown as they are, never run."""
    return template.format(**{name: escape(str(text)) for name, text in texts.items()})


def markup(template: str = "", **texts: object) -> widgets.HTML:
    """A widget that shows `html(template, **texts)`."""
    return widgets.HTML(html(template, **texts), layout=widgets.Layout(width="auto", margin="0"))


def classed(widget: widgets.Widget, *names: str) -> widgets.Widget:
    """The widget with CSS classes."""
    for name in names:
        widget.add_class(name)
    return widget


def wide(**more: str) -> widgets.Layout:
    """As wide as its box."""
    return widgets.Layout(width="auto", **more)


def card(*children: widgets.Widget, **layout: str) -> widgets.VBox:
    """A framed box."""
    return classed(widgets.VBox(children, layout=widgets.Layout(**layout)), "pv-card")
