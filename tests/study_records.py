"""Made-up records in the layout of the stages' files: for the mechanics of the report alone."""

import json
from itertools import permutations

from prefvec.paths import pair_name
from prefvec.store import write_json, write_text

MODELS = ("qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct", "gemma-3-270m")
PAIRS = [list(pair) for pair in permutations(MODELS, 2)]
TRAITS = ["verbosity", "formality", "silly", "honest"]
DIRECT_TE = {"zero_pad": 0.05, "interpolate": 0.1}
LEARNED_TE = {"ridge_concept": 0.8, "ridge_r2": -0.1, "procrustes": 0.6, "cca": 0.7}
CONTROL_TE = {"shuffled_pairing": 0.1, "wrong_trait": 0.2}
CONTROL_TE |= {"shuffled_multiscale": 0.1, "wrong_trait_multiscale": 0.2, "nothing": 0.0}


def record(cell, method, dose, metric, value, te=(None, None, None), half=1.0):
    """One record; `half`: half the width of its interval."""
    source, target, trait = cell
    return {
        "source": source, "target": target, "trait": trait, "method": method, "dose": dose,
        "dose_unit": "own-vector length", "layer_source": 3, "layer_target": 4, "n": 8,
        "metric": metric, "value": value, "ci_low": value - half, "ci_high": value + half,
        "transfer_efficiency": te[0], "te_ci_low": te[1], "te_ci_high": te[2], "split_hashes": {},
    }  # fmt: skip


def steered(cell, efficiencies, site=2.0, own=40.0, doses=(1.0, 2.0), defined=True):
    """Records of one stage: references, and methods with the efficiencies given (interval ± 0.15)."""
    rows = [record(cell, "unsteered", 0.0, "score", 60.0), record(cell, "unsteered", 0.0, "effect", 0.0)]  # fmt: skip
    rows.append(record(cell, "unsteered", 0.0, "collapse", 0.0, half=0.0))
    rows.append(record(cell, "random", -site, "collapse", 0.05, half=0.05))
    for method, te in {"oracle": 1.0, "random_0": 0.0, **efficiencies}.items():
        for dose in doses if method in ("oracle", "random_0", "ridge_concept") else (site,):
            effect = own * te * dose / max(doses)
            known = (te, te - 0.15, te + 0.15) if defined else (None, None, None)
            rows.append(record(cell, method, -dose, "score", 60.0 - effect))
            rows.append(record(cell, method, -dose, "effect", effect, known))
            rows.append(record(cell, method, -dose, "collapse", 0.05, half=0.05))
    return rows


def write_cell(root, cell, direct=None, learned=None, controls=None, choice=None, defined=True):
    """The files of notebooks 03 and 04 for one (source, target, trait)."""
    source, target, trait = cell
    folder = root / pair_name(source, target) / trait
    site = {"layer_source": 3, "layer_target": 4, "dose": 2.0}
    settings = {"trait": trait, "doses": [1.0, 2.0]}
    mapped = (LEARNED_TE if learned is None else learned) | (controls or CONTROL_TE)
    tables = {"03": DIRECT_TE if direct is None else direct, "04": mapped}
    for stage, efficiencies in tables.items():
        records = steered(cell, efficiencies, defined=defined)
        if stage == "04":
            # A dose matched by distance from the unsteered model: Procrustes is there at two.
            records.append(record(cell, "procrustes", -1.37, "effect", 9.0, (0.33, 0.2, 0.4)))
            for method, perplexity in (("unsteered", 8.0), ("ridge_concept", 16.0)):
                dose = 0.0 if method == "unsteered" else -2.0
                records.append(record(cell, method, dose, "perplexity", perplexity))
        write_json(folder / f"results_{stage}.json", records)
        answers = [
            {"method": "unsteered", "dose": 0.0, "question": "Why?", "text": "Because.", "score": 60.0},
            {"method": "ridge_concept", "dose": -2.0, "question": "Why?", "text": f"So ({trait}).", "score": 9.0},
        ]  # fmt: skip
        text = "\n".join(json.dumps(a | {"collapsed": False, "n_tokens": 3}) for a in answers)
        write_text(folder / f"generations_{stage}.jsonl", text)
        manifest = {"stage": stage, "site": site, "settings": settings}
        if stage == "04":
            manifest["maps"] = {m: {"cosine_to_own": 0.5 * te} for m, te in mapped.items()}
            manifest["choice"] = [
                {"method": m, "n": 8, "effect": [te * 40, 0, 0], "te": [te, te - 0.1, te + 0.1]}
                for m, te in (choice or {}).items()
            ]
        write_json(folder / f"manifest_{stage}.json", manifest)


def write_model(root, model, trait, direction=0.9):
    """The file of notebook 02 for one model and trait."""
    write_json(
        root / model / trait / "results_02.json",
        [{"layer": 3, "dose": 1.0, "h1_direction": [direction, 0.5, 1.0], "h1_passed": direction > 0.7}],
    )  # fmt: skip
