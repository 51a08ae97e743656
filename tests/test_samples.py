"""Answers shown as they are: which questions and conditions, and hostile text."""

import json

import pandas as pd

from prefvec.report.samples import LENGTH, first_answers, sample_frame
from prefvec.report.views import examples

ROWS = [
    {"question": q, "method": method, "dose": dose, "text": f"{q} {method} {dose:g}"}
    for q in ("second?", "first?", "third?")  # the order of the split, not of the letters
    for method, dose in (("unsteered", 0.0), ("oracle", -1.5), ("oracle", 3.0), ("ridge", 1.5))
]


def test_the_first_questions_are_shown_in_order_at_the_dose_of_either_sign():
    wide = first_answers(pd.DataFrame(ROWS), 1.5, ["ridge", "oracle", "unsteered", "absent"], 2)
    assert list(wide.index) == ["second?", "first?"]
    assert list(wide.columns) == ["ridge", "oracle", "unsteered"]
    assert wide.loc["first?"].to_list() == [
        "first? ridge 1.5",
        "first? oracle -1.5",
        "first? unsteered 0",
    ]


def test_a_table_names_each_question_once_and_shortens(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[0]["text"], rows[1]["text"] = " \n ", "word " * LENGTH
    path = tmp_path / "generations_04.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    frame = sample_frame(tmp_path, 1.5, ["unsteered", "oracle"], 2)
    assert frame.question.to_list() == ["second?", "", "first?", ""]
    assert frame.answer[0] == "(empty)" and frame.answer[1].endswith("word…")
    assert len(frame.answer[1]) <= LENGTH
    path.unlink()
    assert sample_frame(tmp_path, 1.5, ["unsteered"], 2).empty


def test_markup_of_an_answer_is_text():
    rows = [row | {"text": "<script>alert(1)</script>", "question": "<b>?"} for row in ROWS[:1]]
    html = examples(pd.DataFrame(rows), 1.5, ["unsteered"], 1).to_html()
    assert "&lt;script&gt;" in html and "<script" not in html and "<b>" not in html
