"""Claims: a sentence of the paper stands on the results, or the build names it and stops."""

import re

import pytest

from prefvec.errors import ReportError
from prefvec.paths import ROOT, TEX
from prefvec.report.claims import CLAIMS, USE, check_claims, judged, write_tex
from prefvec.store import read_json

SOURCES = [TEX / "main.tex", *(TEX / "sections").glob("*.tex")]
PAPER = ROOT / "data" / "results" / "paper"
NAME = "mapped-beats-random"


def gain(low):
    return {"main.gain_over_random": {"value": 5.0, "low": low, "high": 9.0}}


def source(folder, text=rf"\claim{{{NAME}}}{{It moves.}}"):
    path = folder / "a.tex"
    path.write_text(f"first\n{text}\n")
    return [path]


def test_a_claim_that_turns_false_stops_the_build_with_its_name(tmp_path):
    assert check_claims(gain(1.0), source(tmp_path), strict=True) == {NAME: ""}
    with pytest.raises(
        ReportError, match=rf"a.tex:2: claim '{NAME}' does not hold: the results say"
    ):
        check_claims(gain(-1.0), source(tmp_path), strict=True)


@pytest.mark.parametrize("numbers", [{}, gain(None)])
def test_so_does_one_whose_number_is_missing_or_undefined(tmp_path, numbers):
    with pytest.raises(ReportError, match="'main.gain_over_random' is missing or undefined"):
        check_claims(numbers, source(tmp_path), strict=True)


def test_elsewhere_its_sentence_is_left_out(tmp_path):
    state = check_claims(gain(-1.0), source(tmp_path), strict=False)
    assert state == {NAME: "the results say otherwise"}
    assert NAME not in write_tex(state, tmp_path / "claims.tex").read_text()
    held = write_tex(check_claims(gain(1.0), source(tmp_path), strict=False), tmp_path / "b.tex")
    assert rf"\prefvecclaim{{{NAME}}}" in held.read_text()


def test_a_claim_without_a_condition_is_refused(tmp_path):
    with pytest.raises(ReportError, match="claim 'all-is-well' has no condition"):
        check_claims({}, source(tmp_path, r"\claim{all-is-well}{Yes.}"), strict=False)


def test_every_condition_is_used_by_a_sentence_and_reads_numbers_that_the_notebooks_give():
    used = {name for path in SOURCES for name in USE.findall(path.read_text())}
    assert used == set(CLAIMS)
    assert all(why != "" for why in judged({}).values()), "a condition that no number can break"


def test_the_claims_of_the_paper_hold_on_the_committed_results():
    """By the numbers of the main cell alone: notebook 09 checks all of them."""
    pair = "qwen2.5-coder-0.5b-instruct--smollm2-135m-instruct"
    numbers = read_json(PAPER / pair / "verbosity" / "numbers_04.json")["numbers"]
    prefix = f"{pair}.verbosity."
    main = {"main." + k.removeprefix(prefix): v for k, v in numbers.items()}
    main |= read_json(PAPER / "numbers_09.json")["numbers"]
    assert {name: why for name, why in judged(main).items() if why} == {}
    for name in CLAIMS:  # and each can be broken by the sign of one number
        assert any(
            judged({**main, key: {k: -9 for k in ("value", "low", "high")}})[name]
            or judged({**main, key: {k: 9 for k in ("value", "low", "high")}})[name]
            for key in main
        ), name


def test_text_of_results_types_no_digit():
    """What stands in `\\claim` and around it comes from numbers by key."""
    for name in ("abstract", "results", "extensions", "truth", "conclusion"):
        text = (TEX / "sections" / f"{name}.tex").read_text()
        bare = re.sub(
            r"(?<!\\)%.*|\\\w+\*?(\[[^]]*\])?(\{[^{}]*\})?|95\\,\\%|\(0\)|\(1\)|R\^2|H[123]|7B|\{[\d.]+pt\}",
            "",
            text,
        )
        assert not re.findall(r"\d+", bare), (name, re.findall(r".*\d+.*", bare))
