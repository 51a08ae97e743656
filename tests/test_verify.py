"""Verification starts from the models alone and says what is not reproduced."""

import pytest

from prefvec import verify
from prefvec.errors import PrefvecError, ReportError
from prefvec.report.compare import compare
from prefvec.store import write_json


def run_of(folder, value):
    number = {"value": value, "low": 0.4, "high": 0.6, "unit": "", "digits": 2}
    record = {"source": "notebooks/04_adapters", "numbers": {"a.b.te.cca": number}}
    write_json(folder / "a--b" / "verbosity" / "numbers_04.json", record)
    return folder


def test_the_store_of_a_verification_has_models_and_no_results(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFVEC_CACHE", str(tmp_path / "usual"))
    for kind in ("models", "generations", "activations", "likelihoods", "ridge_paths"):
        (tmp_path / "usual" / kind).mkdir(parents=True)
    store = verify._store_with_models(tmp_path / "fresh")
    assert {p.name for p in store.iterdir()} == {"models", "gguf"}
    assert (store / "models").resolve() == (tmp_path / "usual" / "models").resolve()


def test_the_report_lists_what_is_not_exact_with_the_tolerance(tmp_path):
    saved = run_of(tmp_path / "saved", 0.5)
    same = verify.as_markdown(compare(saved, run_of(tmp_path / "one", 0.5)), "paper")
    assert "None." in same and "1 exact (100%)" in same and "inside the saved number's 95 %" in same
    inside = verify.as_markdown(compare(saved, run_of(tmp_path / "two", 0.55)), "paper")
    assert "| a.b.te.cca | 0.5 | 0.4 to 0.6 | 0.55 | in the interval |" in inside
    outside = verify.as_markdown(compare(saved, run_of(tmp_path / "three", 0.9)), "paper")
    assert "| 0.9 | outside |" in outside


def test_no_saved_results_and_a_run_that_fails_are_readable_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "AREA", tmp_path / "area")
    monkeypatch.setenv("PREFVEC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ReportError, match="no results to verify"):
        verify.verify(tmp_path, "smoke", [])
    with pytest.raises(PrefvecError, match=r"stopped \(status 2\); go on with --keep"):
        verify.verify(run_of(tmp_path / "saved", 0.5), "smoke", ["--trait=verbositi"])
