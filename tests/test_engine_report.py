"""What the paper says of the engine follows from the benchmark's records."""

import json

import matplotlib.pyplot as plt
import pytest

from prefvec.errors import ReportError
from prefvec.report import engine


@pytest.fixture
def rows(tmp_path, monkeypatch):
    def row(work, contestant, median, unit, ratio=None, target=None, met=None):
        return {"group": "g", "work": work, "contestant": contestant, "median": median, "unit": unit,
                "ratio": ratio, "n": 5, "target": target, "met": met, "note": ""}  # fmt: skip

    records = [
        row(engine.SPEED, "prefvec_engine", 300.0, "tokens/s", 1.0),
        row(engine.SPEED, "repeng_lib", 100.0, "tokens/s", 3.0),
        row(engine.SPEED, "pyvene_lib", None, "tokens/s"),
        row(engine.SPEED, "prefvec / best on transformers", 3.0, "×", 3.0, 1.8, True),
        row(engine.AUTO, "prefvec / best as documented", 3.5, "×", 3.5, 4.0, False),
        row(engine.NATURAL, "prefvec / best as documented", 7.0, "×", 7.0, 6.0, True),
        *[row("scaling", f"rows={n}", 100.0 * n, "tokens/s") for n in (1, 4)],
    ]
    machine = {"processor": "cpu", "torch": "2", "threads": 2, "equal_texts": "8/8"}
    monkeypatch.setattr(engine, "RESULTS", tmp_path / "r.json")
    monkeypatch.setattr(engine, "MACHINE", tmp_path / "m.json")
    engine.RESULTS.write_text(json.dumps(records))
    engine.MACHINE.write_text(json.dumps(machine))
    return engine.records()


def test_numbers_are_those_of_the_records(rows):
    numbers = engine.numbers(rows)
    assert numbers["engine.forced"] == 3.0 and numbers["engine.natural"] == 7.0
    assert (numbers["engine.met"], numbers["engine.targets"]) == (2, 3)


def test_the_table_keeps_a_contestant_that_failed(rows):
    table = engine.contestants(rows)
    assert list(table.Contestant) == ["prefvec", "repeng", "pyvene"]
    assert list(table.Median) == ["300.0", "100.0", "--"]


def test_the_figure_has_a_panel_for_each_way_to_grow(rows):
    figure = engine.scaling_figure(rows)
    assert [ax.get_xlabel() for ax in figure.axes] == list(engine.PANELS.values())
    assert list(figure.axes[0].lines[0].get_ydata()) == [100.0, 400.0]
    plt.close(figure)


def test_a_missing_measurement_names_itself_and_the_command(rows):
    with pytest.raises(ReportError, match=r"natural length.*run benchmarks/run.sh"):
        engine.numbers(rows[rows.work != engine.NATURAL])
