"""`prefvec evaluate`: how well a trait's vector transfers between two models, in one command."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from prefvec.commands import options
from prefvec.errors import ConfigError

MAPPED, WRITTEN = "04_adapters", "03_direct_transfer"  # notebooks
REFERENCES = ("unsteered", "instruction", "oracle", "random")  # of either notebook


def evaluate(
    source: Annotated[str, typer.Option(help="model the vector is found in")],
    target: Annotated[str, typer.Option(help="model it is carried to")],
    trait: options.Trait,
    output: Annotated[
        Path, typer.Option(help="folder; or FILE.json for the table, the rest in the folder FILE")
    ],
    coefficients: Annotated[
        str | None, typer.Option(help="doses to choose among, as 0.5,1,2 (default: the profile's)")
    ] = None,
    num_prompts: Annotated[
        int | None, typer.Option(help="evaluation questions (default: the profile's)")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="methods to show (default: learned maps and controls)")
    ] = None,
    profile: Annotated[str, typer.Option(help="everything else: name or .yaml file")] = "quick",
    seed: Annotated[int, typer.Option(help="of random controls, folds and bootstrap")] = 0,
    device: Annotated[str | None, typer.Option(help="default: the profile's")] = None,
    dtype: Annotated[str | None, typer.Option(help="default: the profile's")] = None,
    json_: options.AsJson = False,
) -> None:
    """Carry a trait's vector to another model: effect and efficiency by method.

    Runs notebook 04 (03 for methods like zero_pad). Layer and coefficient are
    chosen on selection questions, the numbers are from others. Transfer
    efficiency: 0 is a random direction of the same length, 1 the target's own
    vector; a dash where that does no better than random ones.

    Example: prefvec evaluate --source qwen2.5-coder-0.5b-instruct
    --target smollm2-135m-instruct --trait verbosity --coefficients 1,2
    --num-prompts 24 --output transfer/
    """
    doses = (
        None if coefficients is None else sorted(options.numbers(coefficients, "--coefficients"))
    )
    if doses and doses[0] <= 0:
        raise ConfigError(
            f"--coefficients {coefficients}: {doses[0]:g} is not above 0 (which way to steer is the "
            "trait's `steer_to`)"
        )
    if num_prompts is not None and num_prompts < 4:
        raise ConfigError(f"--num-prompts {num_prompts}: it must be at least 4")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: it must be 0 or more")
    as_file = output.suffix == ".json"
    path = options.writable(output, folder=not as_file)
    folder = options.writable(path.with_suffix(""), folder=True) if as_file else path
    for model in (source, target):
        options.check_model(model, device or "auto", dtype or "auto")
    names = [name.strip() for name in methods.split(",")] if methods is not None else None
    shown = _shown(names)
    given = {"source": source, "target": target, "trait": trait, "seed": seed}
    given |= {k: v for k, v in (("device", device), ("dtype", dtype)) if v}
    given |= {"doses": doses} if doses else {}
    given |= {"n_evaluation": num_prompts} if num_prompts else {}
    with options.only_results():
        record = _evaluated(given, profile, shown, folder)

    from prefvec.store import write_json

    write_json(path if as_file else folder / "evaluation.json", record)
    print(json.dumps(record, indent=1, ensure_ascii=False) if json_ else _as_text(record))


def _shown(names: Sequence[str] | None) -> dict[str, list[str]]:
    """Methods by the notebook that has them; only notebooks that are needed."""
    from prefvec.profile import suggest
    from prefvec.transfer import CONTROLS, DIRECT, LEARNED, UNSCALED

    known = {MAPPED: [*LEARNED, *CONTROLS], WRITTEN: [*DIRECT, UNSCALED]}
    if names is None:
        return {MAPPED: known[MAPPED]}
    every = [name for found in known.values() for name in found]
    for name in names:
        if name not in every:
            raise ConfigError(f"--methods: '{name}' is unknown{suggest(name, every)}")
    chosen = {stage: [n for n in found if n in names] for stage, found in known.items()}
    return {stage: found for stage, found in chosen.items() if found}


def _evaluated(given: dict, profile: str, shown: dict[str, list[str]], folder: Path) -> dict:
    """Run the notebooks with their results in a folder; the rows of the methods, as plain values."""
    from prefvec import notebooks
    from prefvec.metrics.trait import UNITS
    from prefvec.paths import pair_name
    from prefvec.profile import Settings
    from prefvec.store import read_json
    from prefvec.study import Study

    given = notebooks.found_files(given)
    stages = {
        stage: notebooks.profile_parameters(notebooks.find_notebook(stage), profile, given)
        for stage in shown
    }
    first = next(iter(stages.values()))
    settings = Settings.from_namespace(first)
    study = Study(settings)  # all that a kernel would refuse later
    parts = settings.profile, pair_name(settings.source, settings.target), study.trait.name
    cell = folder.joinpath(*parts)
    rows, references = [], list(REFERENCES)
    for stage, parameters in stages.items():
        path = notebooks.find_notebook(stage)
        with notebooks.results_in(folder, folder / "figures"):
            notebooks.execute(path, parameters, cell / "notebooks" / path.name)
        number = stage.partition("_")[0]
        records = read_json(cell / f"results_{number}.json")
        rows += _rows(records, references + shown[stage], settings.doses)
        references = []
    site = read_json(cell / f"manifest_{number}.json")["site"]
    trait = study.trait
    return {
        "source": settings.source, "target": settings.target, "trait": trait.name, "profile": settings.profile,
        "site": site, "n": settings.n_evaluation, "seed": settings.seed, "unit": UNITS[trait.measure],
        "steered_to": getattr(trait.poles, trait.steer_to), "rows": rows, "folder": str(cell),
    }  # fmt: skip


def _rows(records: list[dict], methods: Sequence[str], doses: Sequence[float]) -> list[dict]:
    """The effect of methods at the profile's doses, in the order of the methods."""
    cells = {(r["method"], r["dose"], r["metric"]): r for r in records if r["dose"] is not None}
    rows = []
    for method in methods:
        for dose in sorted({d for m, d, _ in cells if m == method}, key=abs):
            if dose and abs(dose) not in doses:
                continue  # those at equal KL
            effect = cells[method, dose, "effect"]
            rows.append(
                {"method": method, "coefficient": dose, "n": effect["n"],
                 "score": _interval(cells[method, dose, "score"]), "effect": _interval(effect),
                 "efficiency": [effect[k] for k in ("transfer_efficiency", "te_ci_low", "te_ci_high")],
                 "collapsed": cells[method, dose, "collapse"]["value"]}
            )  # fmt: skip
    return rows


def _interval(record: dict) -> list[float | None]:
    return [record[k] for k in ("value", "ci_low", "ci_high")]


def _as_text(record: dict) -> str:
    from prefvec.metrics.trait import decimals
    from prefvec.report.figures import label
    from prefvec.report.views import plain
    from prefvec.stats import Estimate

    def shown(values: list, digits: int) -> str:
        return plain(Estimate.from_json(values), digits)

    site = record["site"]
    digits = decimals(record["unit"])
    lines = [
        f"{record['trait']}, {record['source']} -> {record['target']}, {record['n']} questions; layer "
        f"{site['layer_source']} -> {site['layer_target']}, chosen coefficient {site['dose']:g}",
        f"score and effect in {record['unit']} (effect: towards '{record['steered_to']}'), 95 % intervals",
        f"{'method':<29} {'coeff.':>6}  {'score':<20} {'effect':<22} {'efficiency':<21} collapsed",
    ]
    for row in record["rows"]:
        lines.append(
            f"{label(row['method']):<29} {row['coefficient']:>6g}  {shown(row['score'], digits):<20} "
            f"{shown(row['effect'], digits):<22} {shown(row['efficiency'], 2):<21} "
            f"{row['collapsed']:.0%}"
        )
    return "\n".join([*lines, record["folder"]])
