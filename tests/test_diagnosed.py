"""The paper's section on diagnostics: a table and numbers from the cells' files, left out without them."""

import re

import pytest

from prefvec.diagnostics.factorial import FACTORS
from prefvec.paths import TEX, pair_name
from prefvec.report import cells, diagnosed
from prefvec.report.tables import interval_text, write_table
from prefvec.store import write_json

A, B, C = "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct", "gemma-3-270m"
PAIRS = [[A, B], [B, A], [A, C]]
SECTION = TEX / "sections" / "diagnostics.tex"


def write_cell(root, pair, shares, verdicts, unit="tokens"):
    folder = root / "p" / pair_name(*pair) / "verbosity"
    name = f"{pair[0]}_to_{pair[1]}_verbosity.json"
    known = shares is not None
    values = dict(zip(FACTORS, shares or (None,) * 3, strict=True))
    part = {
        "loss": [20.0, 10.0, 30.0] if known else [1.0, -5.0, 7.0],
        "shares": {f: [v, v - 0.1, v + 0.1] if known else [None] * 3 for f, v in values.items()},
        "main": max(FACTORS, key=values.get) if known else "",
    }
    layers = {"assumed": [11, 14], "best_target": 14 if unit == "tokens" else 17}
    swapped = {"unit": unit, "layers": layers, "effect": part, "beyond_random": part}
    write_json(folder / f"factorial_{name}", swapped)
    direct = {"effect_assumed": [0.0, 0.0, 0.0], "effect_best": [0.25, 0.0, 0.8]}
    for letter, verdict in verdicts.items():
        record = {
            "conclusion": {"verdict": verdict},
            "measurements": {"layers": {"direct": direct}},
        }
        write_json(folder / f"hypothesis_{letter}_{name}", record)


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    every = {"a": "rejected", "b": "supported", "c": "rejected"}
    write_cell(tmp_path, PAIRS[0], (0.1, 0.9, 0.0), every)
    write_cell(tmp_path, PAIRS[1], (0.7, 0.3, 0.0), {**every, "c": "undecided"}, "nats/token")
    write_cell(tmp_path, PAIRS[2], None, {"c": "undecided"})
    return diagnosed.diagnosed("p", [*PAIRS, [C, A]], ["verbosity", "silly"])


def test_a_row_a_cell_with_dashes_where_nothing_is_known(found, tmp_path):
    table = diagnosed.factorial_table(found, interval_text)
    assert list(table.B) == ["supported", "supported", "--"]
    assert table.direction[0] == r"$0.90\;[0.80,\,1.00]$" and table.direction[2] == "--"
    assert list(table.loss) == [  # a token more or less is nothing, a tenth of a nat is not
        r"$20.0\;[10.0,\,30.0]$", r"$20.00\;[10.00,\,30.00]$", r"$1.0\;[-5.0,\,7.0]$",
    ]  # fmt: skip
    assert write_table(table, tmp_path / "t.tex", "llcccrrrr").exists()
    assert diagnosed.factorial_table([], interval_text).empty


def test_verdicts_and_main_factors_are_counted_and_shares_averaged_where_defined(found):
    numbers = diagnosed.numbers(found)
    assert (numbers["diagnosed.n"], numbers["diagnosed.raw.defined"]) == (3, 2)
    assert numbers["diagnosed.b.supported"] == 2 and numbers["diagnosed.c.undecided"] == 2
    assert [numbers[f"diagnosed.raw.main.{f}"] for f in FACTORS] == [1, 1, 0]
    assert numbers["diagnosed.raw.norm"].value == pytest.approx(0.4)
    assert numbers["diagnosed.layer.same"] == 1  # of the two with a loss
    assert numbers["diagnosed.main.effect.best"].value == 0.25


def test_the_section_types_no_number_and_asks_for_none_that_the_table_s_notebook_lacks(found):
    text = SECTION.read_text()
    asked = set(re.findall(r"\\res(?:ci)?\{(diagnosed\.[^}]*)\}", text))
    assert asked and asked <= set(diagnosed.numbers(found))
    bare = re.sub(r"\\\w+\*?(\[[^]]*\])?(\{[^}]*\})?|95\\,\\%", "", text)
    assert not re.findall(r"\d", bare.replace("\\", ""))
    assert r"\ifdiagnosed\input{sections/diagnostics}\fi" in (TEX / "main.tex").read_text()
