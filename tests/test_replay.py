"""Replay: a figure drawn from its file is the figure that was drawn, and nothing else can be called."""

import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from prefvec import replay
from prefvec.errors import ReportError
from prefvec.report import figures
from prefvec.report.figure_data import decoded, drawn_again, encoded, write_figure_data
from prefvec.stats import Estimate
from prefvec.store import write_json

NAN = float("nan")
HOSTILE = r"100% of $x_1 & {y} <script>alert(1)</script> 意味"
TABLE = pd.DataFrame(
    {
        "method": ["unsteered", "oracle", "oracle", "ridge_concept"],
        "dose": [0.0, -1.0, -2.0, -2.0],
        "score": [Estimate(60.0, 55.0, 65.0), Estimate(40.0, NAN, NAN), Estimate(20.0, 15.0, 25.0), Estimate(25.0, 0.1 + 0.2, 30.0)],
        "layer": [0, 1, 1, 1],
        "known": [True, False, True, True],
        "share": [0.5, NAN, math.inf, 1 / 3],
    },
    index=[0, 3, 4, 7],
)  # fmt: skip


def through_json(value):
    return decoded(json.loads(json.dumps(encoded(value), allow_nan=False)))


def test_a_table_comes_back_with_its_types_index_and_estimates():
    pd.testing.assert_frame_equal(through_json(TABLE), TABLE)
    named = TABLE.set_index("method")[["share"]]
    pd.testing.assert_frame_equal(through_json(named), named)
    wide = pd.DataFrame([[0.1, 0.2]], index=["a"], columns=[3, 4])
    wide.index.name, wide.columns.name = "source layer", "target layer"
    pd.testing.assert_frame_equal(through_json(wide), wide)
    assert isinstance(through_json(TABLE).score.iloc[0], Estimate)


def test_values_come_back_with_their_types():
    array = np.array([[1.5, NAN], [2.0, -math.inf]])
    value = {"a": (1, "x"), "b": [None, True, 2, 2.0], "c": frozenset({"p", "q"}), "t": HOSTILE}
    assert through_json(value) == value
    np.testing.assert_array_equal(through_json(array), array)
    assert through_json(np.array([True, False])).dtype == bool
    assert math.isnan(through_json(NAN)) and through_json(np.float64(0.1)) == 0.1
    with pytest.raises(TypeError, match="can't be drawn again from a object"):
        encoded(object())


def test_a_figure_is_drawn_again_byte_for_byte(tmp_path):
    figures.use_style()
    arguments = (TABLE, f"tokens {HOSTILE}"[:9], "title")
    first = figures.dose_response(*arguments)
    figures.save(first, tmp_path, "first")
    path = write_figure_data(tmp_path, "d", "notebooks/x", figures.dose_response, arguments)
    figures.save(drawn_again(path), tmp_path, "second")
    plt.close("all")
    assert (tmp_path / "first.pdf").read_bytes() == (tmp_path / "second.pdf").read_bytes()
    moved = json.loads(path.read_text().replace("[20.0", "[30.0").replace(":20.0", ":30.0"))
    path.write_text(json.dumps(moved))
    figures.save(drawn_again(path), tmp_path, "third")
    plt.close("all")
    assert (tmp_path / "first.pdf").read_bytes() != (tmp_path / "third.pdf").read_bytes()


def test_a_pdf_embeds_its_fonts_without_their_tables_for_layout(tmp_path, monkeypatch):
    """matplotlib leaves no choice here, so the list of tables that fontTools drops is changed."""
    from fontTools import subset

    seen, whole = [], subset.Subsetter.subset

    def watched(self, font):
        whole(self, font)
        seen.append(set(font.keys()))

    monkeypatch.setattr(subset.Subsetter, "subset", watched)
    figures.use_style()
    figures.use_style()
    assert subset.Options().drop_tables.count("GSUB") == 1
    figures.save(figures.dose_response(TABLE, "tokens", "title"), tmp_path, "d")
    plt.close("all")
    assert seen
    for tables in seen:
        assert {"glyf", "loca", "head"} <= tables and not tables & set(figures.LAYOUT_TABLES)


def test_a_picture_is_drawn_again_only_where_its_figure_is_another(tmp_path):
    figures.use_style()
    path = write_figure_data(
        tmp_path, "d", "notebooks/x", figures.dose_response, (TABLE, "tokens", "t")
    )
    pdf, png = replay._draw(path, tmp_path), tmp_path / "d.png"
    drawn = pdf.read_bytes(), png.read_bytes()
    png.write_bytes(b"as it was")
    replay._draw(path, tmp_path)
    assert (pdf.read_bytes(), png.read_bytes()) == (drawn[0], b"as it was")
    pdf.write_bytes(b"%PDF of other numbers")
    replay._draw(path, tmp_path)
    assert (pdf.read_bytes(), png.read_bytes()) == drawn
    png.unlink()
    replay._draw(path, tmp_path)
    assert png.read_bytes() == drawn[1]


@pytest.mark.parametrize(
    "function",
    ["os:system", "prefvec.report.paper:write_results", "prefvec.report.figures:nothing", "x"],
)
def test_figure_data_can_call_nothing_but_a_figure_s_function(tmp_path, function):
    path = write_json(tmp_path / "f.json", {"function": function, "arguments": ["echo"]})
    with pytest.raises(ReportError, match="draws no figure of this version"):
        drawn_again(path)


def test_damaged_or_missing_figure_data_is_one_readable_error(tmp_path):
    path = write_json(
        tmp_path / "figures" / "f.json", {"function": "prefvec.report.figures:heatmap"}
    )
    with pytest.raises(ReportError, match="f.json: no figure data"):
        drawn_again(path)
    with pytest.raises(ReportError, match="give a folder like data/results/paper"):
        replay.redraw(tmp_path / "figures")
    with pytest.raises(ReportError, match="no manifest_09.json"):
        replay.replay(tmp_path)
