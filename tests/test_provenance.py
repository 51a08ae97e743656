"""The checklist of the paper is filled from the manifests."""

import pytest

from prefvec.errors import ReportError
from prefvec.report.provenance import checklist, manifests, provenance_numbers, stage_frame
from prefvec.store import write_json


def manifest(folder, stage, seconds, commit="a" * 40, dirty=False, **extra):
    record = {
        "stage": stage, "git": {"commit": commit, "dirty": dirty}, "lock_sha256": "f" * 64,
        "python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "threads": 2,
        "wall_seconds": seconds, "peak_memory_mib": 1024 * seconds, **extra,
    }  # fmt: skip
    write_json(folder / f"manifest_{stage[:2]}.json", record)


@pytest.fixture
def found(tmp_path):
    few = {"seed": 0, "n_evaluation": 24, "n_random": 3}
    more = few | {"n_evaluation": 40}
    models = {"m": {"fingerprint": "0123456789abcdef", "dtype": "float32", "device": "cpu"}}
    manifest(tmp_path / "a", "04_adapters", 3, settings=few, models=models)
    manifest(
        tmp_path / "b",
        "04_adapters",
        6,
        "b" * 40,
        True,
        settings=more,
        models=models,
        processor="A Chip",
    )
    manifest(tmp_path, "00_architectures", 1)
    manifest(tmp_path, "09_paper", 100)
    return manifests(tmp_path)


def test_the_checklist_says_what_differs_between_stages(found):
    said = dict(checklist(found).itertuples(index=False))
    assert said["Stages with uncommitted changes"] == "1 of 3"
    commits = said["Commits that computed the results"].split(", ")
    assert set(commits) == {"a" * 10, "b" * 10}
    assert said["Processors, where noted"] == "A Chip"  # older manifests say nothing
    assert said["Models (fingerprint, type, device)"] == "m (0123456789, float32, cpu)"
    assert "evaluation 24, 40" in said["Questions of the splits (disjoint by hash)"]


def test_the_cost_is_that_of_the_stages_without_the_paper_s_own(found):
    table = stage_frame(found).set_index("notebook")
    assert list(table.index) == ["00_architectures", "04_adapters"]
    assert table.runs["04_adapters"] == 2
    assert table["peak memory (GiB)"]["04_adapters"] == "6.0"
    numbers = provenance_numbers(found)
    assert numbers["run.stages"][0] == 3 and numbers["run.hours"][0] == 10 / 3600
    assert (numbers["run.memory"][0], numbers["run.dirty"][0]) == (6, 1)


def test_a_folder_without_stages_is_refused(tmp_path):
    with pytest.raises(ReportError, match="no manifests"):
        manifests(tmp_path)
