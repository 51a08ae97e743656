"""What notebooks 06 and 07 found for the main pair, over its traits: for the paper's section on them."""

from collections.abc import Iterable, Sequence

import pandas as pd

from prefvec.blackbox.sweep import CARRIES, CARRIES_NOTHING, DOORS, NOT_SHOWN, Door
from prefvec.judge.agreement import COHERENCE, FIT_AUC, FIT_MISSING, Fitness
from prefvec.judge.judging import is_local
from prefvec.metrics.trait import decimals
from prefvec.report.blackbox_views import door_table
from prefvec.report.cells import manifest_unit, pair_folder
from prefvec.report.judge_views import fitness_table
from prefvec.report.numbers import number_key
from prefvec.stats import Estimate
from prefvec.store import read_json

NONE = "none"
ALIGN = {"judges": "llrrrrrl", "doors": "llrrrrl"}  # columns of the tables for LaTeX
ESTIMATES = ("auc", "auc_length_free", "length_bias", "swing", "control", "beyond")
SERVED = {
    True: "served by llama.cpp on the machine that ran the notebooks",
    False: "behind the address of a server",
}


def judged(profile: str, pair: Sequence[str], traits: Sequence[str]) -> dict[str, dict]:
    """Manifests of notebook 06 by trait, for those of a pair that it ran for."""
    return _manifests(profile, pair, traits, "06")


def boxed(profile: str, pair: Sequence[str], traits: Sequence[str]) -> dict[str, dict]:
    """Manifests of notebook 07 by trait, for those of a pair that it ran for."""
    return _manifests(profile, pair, traits, "07")


def judge_table(judges: dict[str, dict], latex: bool = False) -> pd.DataFrame:
    """A row a trait and a rubric: agreement with texts of known order, missing scores, verdict."""
    return _with_trait({trait: fitness_table(fits(m), latex) for trait, m in judges.items()})


def box_table(boxes: dict[str, dict], latex: bool = False) -> pd.DataFrame:
    """A row a trait and a door of a black box: what the vector does, and what its controls do."""
    return _with_trait(
        {
            trait: door_table(doors(m), decimals(manifest_unit(m)), latex)
            for trait, m in boxes.items()
        }
    )


def tables(judges: dict[str, dict], boxes: dict[str, dict]) -> dict[str, pd.DataFrame]:
    """Both for LaTeX, by name; one that would be empty is left out."""
    both = {"judges": judge_table(judges, latex=True), "doors": box_table(boxes, latex=True)}
    return {name: table for name, table in both.items() if len(table)}


def fits(manifest: dict) -> list[Fitness]:
    """The judge's fitness by rubric, from a manifest of notebook 06."""
    return [
        Fitness(
            **{k: Estimate.from_json(row[k]) if k in ESTIMATES else row[k] for k in Fitness._fields}
        )
        for row in manifest["fitness"]
    ]  # fmt: skip


def doors(manifest: dict) -> list[Door]:
    """The doors of a black box, from a manifest of notebook 07."""
    return [
        Door(**{k: Estimate.from_json(v) if k in ESTIMATES else v for k, v in row.items()})
        for row in manifest["doors"]
    ]


def numbers(judges: dict[str, dict], boxes: dict[str, dict]) -> dict[str, tuple]:
    """Key → (value, unit, digits): who judged, for which traits a judge is fit, what follows for its
    scores, and through which doors of a black box a direction gets, in words and counts."""
    found = {trait: fits(manifest) for trait, manifest in judges.items()}
    fit = {t: [f.fit for f in all_ if f.rubric != COHERENCE][0] for t, all_ in found.items()}
    sound = [f.fit for all_ in found.values() for f in all_ if f.rubric == COHERENCE]
    local = all(is_local(m["judge"]) and not m["judge_url"] for m in judges.values())
    good, bad = ([t for t, ok in fit.items() if ok is wanted] for wanted in (True, False))
    out: dict[str, tuple] = {
        "judged.n": (len(judges), "", 0),
        "judged.model": (listed(m["judge"] for m in judges.values()), "", 0),
        "judged.served": (SERVED[local], "", 0),
        "judged.paid": ("No paid judge was run" if local else "A paid judge may have been run", "", 0),
        "judged.fit": (len(good), "", 0),
        "judged.fit.traits": (listed(good), "", 0),
        "judged.unfit.traits": (listed(bad), "", 0),
        "judged.coherence.fit": (sum(sound), "", 0),
        "judged.claim": (_claim(good, bad), "", 0),
        "judged.rule.auc": (FIT_AUC, "", 1),
        "judged.rule.missing": (FIT_MISSING, "%", 0),
        "boxed.n": (len(boxes), "", 0),
        "boxed.model": (listed(m["box"] for m in boxes.values()), "", 0),
    }  # fmt: skip
    gates = {trait: {d.name: d.carries for d in doors(m)} for trait, m in boxes.items()}
    for name in DOORS:
        words = {trait: by_door[name] for trait, by_door in gates.items()}
        out[f"boxed.says.{number_key(name)}"] = (_says(words), "", 0)
    return out


def _manifests(profile: str, pair: Sequence[str], traits: Sequence[str], number: str) -> dict:
    paths = {t: pair_folder(profile, pair, t) / f"manifest_{number}.json" for t in traits}
    return {trait: read_json(path) for trait, path in paths.items() if path.exists()}


def _with_trait(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    parts = [table.assign(trait=trait) for trait, table in tables.items()]
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["trait"])
    return whole[["trait", *(c for c in whole.columns if c != "trait")]]


def _claim(good: Sequence[str], bad: Sequence[str]) -> str:
    """What becomes of the judge's trait scores."""
    if not good:
        return "its scores are used for no claim"
    if bad:
        return f"its scores may back a claim on {listed(good)} and on nothing else"
    return "its scores may back a claim on each of these traits"


def _says(words: dict[str, str]) -> str:
    """What one door lets through, over traits."""
    through = [trait for trait, word in words.items() if word == CARRIES]
    if through:
        rest = [trait for trait, word in words.items() if word == NOT_SHOWN]
        also = f", and is not shown to for {listed(rest)}" if rest else ""
        return f"the direction gets through for {listed(through)}{also}"
    if words and set(words.values()) == {CARRIES_NOTHING}:
        return (
            "nothing of the direction gets through: every answer is the one that the controls give"
        )
    return "the direction is not shown to get through"


def listed(names: Iterable[str]) -> str:
    """Names as a list in a sentence, each once."""
    return _and(list(dict.fromkeys(names))) or NONE


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
