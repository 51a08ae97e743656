"""A trait of the reader's own: the file and the command that the README shows, run as they stand."""

import json
import math
import os
import re
import subprocess
import sys

import pytest
import yaml

from prefvec.errors import ConfigError
from prefvec.paths import ROOT, pair_name
from prefvec.profile import Settings, load_profile
from prefvec.study import Study
from prefvec.traits import TRAITS, check_disjoint, load_questions, load_trait
from prefvec.transfer.methods import LEARNED

README = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own trait")[1]
TRAIT = re.search(r"```yaml\n(.*?)```", README, re.S).group(1)
COMMAND = re.search(r"^prefvec (notebook 04 .*)$", README, re.M).group(1).split()
PAIR = ("qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct")


def run(folder, text):
    """The README's command in a folder that holds `my_trait.yaml`."""
    (folder / "my_trait.yaml").write_text(text)
    environment = {
        **os.environ,
        "PREFVEC_RESULTS": str(folder / "results"),
        "PREFVEC_FIGURES": str(folder / "figures"),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "paper_src"), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(
        [sys.executable, "-m", "prefvec.cli", *COMMAND],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_the_readme_s_trait_is_new_small_and_sound(tmp_path):
    assert len(TRAIT.splitlines()) == 6
    (tmp_path / "my_trait.yaml").write_text(TRAIT)
    trait = load_trait(tmp_path / "my_trait.yaml")
    assert trait.name not in {p.stem for p in TRAITS.glob("*.yaml")}
    assert trait.measure == "classifier"
    splits = {split: load_questions(split) for split in ("extraction", "alignment", "evaluation")}
    check_disjoint({**splits, "shown": [e.question for e in trait.examples]})


def test_a_misspelt_field_is_refused_by_name_before_any_kernel(tmp_path):
    done = run(tmp_path, TRAIT.replace("instructions:", "instrutions:"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: trait file ") and "my_trait.yaml: " in done.stderr
    assert "instrutions: unknown field" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["my_trait.yaml"]


def test_too_few_questions_for_the_classifier_is_said_at_once(tmp_path):
    (tmp_path / "my_trait.yaml").write_text(TRAIT)
    sizes = {**load_profile("smoke").settings, "n_extraction": 4, "source": PAIR[0]}
    settings = Settings.checked(
        {**sizes, "target": PAIR[1], "trait": str(tmp_path / "my_trait.yaml")}
    )
    with pytest.raises(ConfigError, match="'poetic' is scored by a classifier.*n_extraction is 4"):
        Study(settings)


@pytest.mark.real
@pytest.mark.notebooks
def test_one_command_gives_a_new_trait_its_transfer_rows(tmp_path):
    done = run(tmp_path, TRAIT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out.ipynb").exists()
    cell = tmp_path / "results" / "smoke" / pair_name(*PAIR) / yaml.safe_load(TRAIT)["name"]
    rows = json.loads((cell / "results_04.json").read_text(encoding="utf-8"))
    effects = {row["method"]: row for row in rows if row["metric"] == "effect" and row["dose"]}
    assert {*LEARNED, "oracle", "shuffled_pairing", "wrong_trait", "random"} <= set(effects)
    profile = load_profile("smoke").settings
    for row in effects.values():
        assert (row["source"], row["target"]) == PAIR
        assert (row["trait"], row["task"], row["n"]) == (
            "poetic",
            "answer",
            profile["n_evaluation"],
        )
        assert math.isfinite(row["value"]) and row["ci_low"] <= row["value"] <= row["ci_high"]
        te = [row[key] for key in ("transfer_efficiency", "te_ci_low", "te_ci_high")]
        assert all(v is None for v in te) or math.isfinite(te[0])
        assert {"extraction", "alignment", "selection", "choice", "evaluation"} <= set(
            row["split_hashes"]
        )
    assert effects["oracle"]["value"] != effects["random"]["value"]
    manifest = json.loads((cell / "manifest_04.json").read_text(encoding="utf-8"))
    assert manifest["split_hashes"] == effects["oracle"]["split_hashes"]
