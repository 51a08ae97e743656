# The DAG of the paper: one rule a notebook, executed by papermill with checked parameters.
# A rule's inputs include every library module its notebook imports, so an edit reruns what it
# touches; generations and activations come back from the content-addressed store. No input is marked
# `ancient`: Snakemake leaves out a stage that is out of date if an ancient input of it is made anew.
#
# Started by `prefvec run` (run_all.sh), which passes the profile as the configuration, with the memory
# and time to ask of a cluster for each job (docs/scaling.md):
#   snakemake --configfile .prefvec/profile-quick.json --cores 2

import json
import os
import re
import sys
from glob import glob

from prefvec import pipeline
from prefvec.notebooks import diagnostic_notebooks, find_notebook, parameters_of, source_digest
from prefvec.paths import RESULTS, ROOT, pair_name, slug
from prefvec.profile import Profile
from prefvec.tasks import load_task, task_file
from prefvec.traits import TRAITS, load_trait

PROFILE = Profile(**{k: v for k, v in config.items() if k in Profile.model_fields})
OUT = os.path.relpath(RESULTS / PROFILE.name, ROOT)
MODELS = {slug(name): name for name in PROFILE.models}
PAIRS = {pair_name(*pair): pair for pair in PROFILE.pairs}
SOURCES = {source for source, _ in PROFILE.pairs}
TRAIT_OF = {load_trait(name).name: name for name in PROFILE.traits}
DIAGNOSED = [load_trait(name).name for name in PROFILE.diagnostics.traits]
DIAGNOSTICS = diagnostic_notebooks()
MAIN = pair_name(*PROFILE.pairs[0])  # the pair whose answers are judged, and whose target is asked
JUDGED = [load_trait(name).name for name in PROFILE.judge.traits]
BOXED = [load_trait(name).name for name in PROFILE.black_box.traits]
TEX_SOURCES = ["paper_src/tex/main.tex", *sorted(glob("paper_src/tex/sections/*.tex"))]
RUBRICS = sorted([*glob("data/gold/*.jsonl"), *glob("data/judge/*.yaml")])
DATA = ["data/models.yaml", "data/prompts/questions.yaml", "data/prompts/styles.yaml"]


def trait_file(wildcards):
    name = TRAIT_OF[wildcards.trait]
    return name if "." in name else os.path.relpath(TRAITS / f"{name}.yaml", ROOT)


def task_files(wildcards):
    name = PROFILE.settings_of(TRAIT_OF[wildcards.trait]).get("task", "answer")
    return [os.path.relpath(path, ROOT) for path in (task_file(name), load_task(name).items)]


def code(notebook):
    """Library modules that a notebook imports; its own cells are the parameter `source`."""
    return pipeline.library_inputs(notebook)


def parameters(notebook, **chosen):
    """The stage's parameters as JSON: the profile's settings that the notebook declares."""
    declared = parameters_of(find_notebook(notebook))
    given = PROFILE.settings_of(chosen.get("trait", ""))
    settings = {k: v for k, v in given.items() if k in declared}
    return json.dumps({**settings, "profile": PROFILE.name, **chosen}, sort_keys=True)


def stage_of_pair(notebook):
    """Parameters of a stage that belongs to a pair, as a function of the wildcards."""
    def of(wildcards):
        source, target = PAIRS[wildcards.pair]
        return parameters(notebook, source=source, target=target, trait=TRAIT_OF[wildcards.trait])
    return of


def part_of_pair(notebook, part):
    """Parameters of a notebook 05, 06 or 07: those of the cell, and a part of the profile."""
    declared = parameters_of(find_notebook(notebook))
    given = {k: v for k, v in part.model_dump().items() if k in declared}

    def of(wildcards):
        source, target = PAIRS[wildcards.pair]
        trait = TRAIT_OF[wildcards.trait]
        return parameters(notebook, source=source, target=target, trait=trait, **given)
    return of


def extensions_of_pair(wildcards):
    """Parameters of notebook 08: the profile's `extensions` and all of its traits."""
    source, target = PAIRS[wildcards.pair]
    chosen = PROFILE.extensions_of(source, target).model_dump()
    return parameters(
        "08_extensions", source=source, target=target, traits=list(TRAIT_OF), **chosen
    )


def adapters_both_ways(wildcards):
    """What 04 leaves for all traits of a pair, and for the reverse pair where the profile has it."""
    source, target = PAIRS[wildcards.pair]
    ways = [name for name in (wildcards.pair, pair_name(target, source)) if name in PAIRS]
    return expand(rules.adapters.output.manifest, pair=ways, trait=TRAIT_OF)


def stage_of_model(notebook):
    """Parameters of a stage that belongs to one model."""
    def of(wildcards):
        model = MODELS[wildcards.model]
        # A layer given by number is a source's; a model that is only a target may be shallower.
        given = {} if model in SOURCES else {"intervention_layer": -1}
        return parameters(notebook, model=model, trait=TRAIT_OF[wildcards.trait], **given)
    return of


def models_of_pair(wildcards):
    return [f".prefvec/models/{slug(name)}" for name in PAIRS[wildcards.pair]]


def ask(rule, resource):
    """Memory (MiB) or time (minutes) for a job, as a function of its wildcards: by the cost model of
    `prefvec plan`, where the run was started with it, else a default that suits small models."""
    def of(wildcards):
        owner = getattr(wildcards, "model", getattr(wildcards, "pair", ""))
        trait = getattr(wildcards, "trait", "")
        job = f"{rule} {'/'.join(filter(None, [owner, trait]))}".strip()
        return config.get("resources", {}).get(job, {"mem_mb": 6000, "runtime": 60})[resource]
    return of


# Stages of one model run two at a time, which hides their start-up; a pair has all cores to itself.
# On a cluster these are the cores of one job, which a job can't know from its own node.
CORES = int(config.get("cores") or workflow.cores)
HALF = max(1, CORES // 2)
GPU = int(PROFILE.settings.get("device") == "cuda")  # GPUs of a stage that computes with a model
PYTHON = sys.executable
RUN = "{PYTHON:q} -m prefvec.cli notebook {params.notebook} --output {output.notebook:q} --json {params.json:q}"


wildcard_constraints:
    model="|".join(map(re.escape, MODELS)),
    pair="|".join(map(re.escape, PAIRS)),
    trait="|".join(map(re.escape, TRAIT_OF)),


# These need the network or write outside the results; they run where the pipeline was started.
localrules:
    all,
    validated,
    model,
    paper,
    pdf,


rule all:
    input:
        f"{OUT}/manifest_09.json",
        ["paper_src/tex/main.pdf"] if int(config.get("pdf", 1)) else [],


# `prefvec run --validate`: does a vector steer the model it came from? Sources alone.
rule validated:
    input:
        expand(f"{OUT}/{{model}}/{{trait}}/manifest_02.json", model=map(slug, sorted(SOURCES)), trait=TRAIT_OF),


rule model:
    output:
        touch(".prefvec/models/{model}"),
    params:
        name=lambda w: MODELS[w.model],
    resources:
        mem_mb=ask("model", "mem_mb"),
        runtime=ask("model", "runtime"),
        gpu=0,
    shell:
        "{PYTHON:q} -m prefvec.cli fetch {params.name:q}"


rule architectures:
    input:
        expand(".prefvec/models/{model}", model=MODELS),
        DATA[0],
        "data/families.yaml",
        code("00_architectures"),
    output:
        notebook=f"{OUT}/notebooks/00_architectures.ipynb",
        manifest=f"{OUT}/manifest_00.json",
        table=f"{OUT}/tables/architectures.tex",
    params:
        notebook="00_architectures",
        source=source_digest("00_architectures"),
        json=parameters("00_architectures", models=PROFILE.models, screen=PROFILE.screen),
    threads: HALF
    resources:
        mem_mb=ask("architectures", "mem_mb"),
        runtime=ask("architectures", "runtime"),
        gpu=0,
    shell:
        RUN


rule extract:
    input:
        ".prefvec/models/{model}",
        DATA,
        "data/tasks/summarise.yaml",
        "data/articles.jsonl",
        trait_file,
        task_files,
        code("01_extract"),
    output:
        notebook=f"{OUT}/{{model}}/{{trait}}/notebooks/01_extract.ipynb",
        manifest=f"{OUT}/{{model}}/{{trait}}/manifest_01.json",
        vector=f"{OUT}/{{model}}/{{trait}}/preference_vector.json",
    params:
        notebook="01_extract",
        source=source_digest("01_extract"),
        json=stage_of_model("01_extract"),
    threads: HALF
    resources:
        mem_mb=ask("extract", "mem_mb"),
        runtime=ask("extract", "runtime"),
        gpu=GPU,
    shell:
        RUN


rule validate:
    input:
        f"{OUT}/{{model}}/{{trait}}/manifest_01.json",
        DATA,
        trait_file,
        task_files,
        code("02_validate"),
    output:
        notebook=f"{OUT}/{{model}}/{{trait}}/notebooks/02_validate.ipynb",
        manifest=f"{OUT}/{{model}}/{{trait}}/manifest_02.json",
    params:
        notebook="02_validate",
        source=source_digest("02_validate"),
        json=stage_of_model("02_validate"),
    threads: HALF
    resources:
        mem_mb=ask("validate", "mem_mb"),
        runtime=ask("validate", "runtime"),
        gpu=GPU,
    shell:
        RUN


rule direct_transfer:
    input:
        models_of_pair,
        DATA,
        trait_file,
        task_files,
        code("03_direct_transfer"),
    output:
        notebook=f"{OUT}/{{pair}}/{{trait}}/notebooks/03_direct_transfer.ipynb",
        manifest=f"{OUT}/{{pair}}/{{trait}}/manifest_03.json",
        results=f"{OUT}/{{pair}}/{{trait}}/results_03.json",
    params:
        notebook="03_direct_transfer",
        source=source_digest("03_direct_transfer"),
        json=stage_of_pair("03_direct_transfer"),
    threads: CORES
    resources:
        mem_mb=ask("direct_transfer", "mem_mb"),
        runtime=ask("direct_transfer", "runtime"),
        gpu=GPU,
    shell:
        RUN


rule adapters:
    input:
        models_of_pair,
        DATA,
        trait_file,
        task_files,
        code("04_adapters"),
    output:
        notebook=f"{OUT}/{{pair}}/{{trait}}/notebooks/04_adapters.ipynb",
        manifest=f"{OUT}/{{pair}}/{{trait}}/manifest_04.json",
        results=f"{OUT}/{{pair}}/{{trait}}/results_04.json",
    params:
        notebook="04_adapters",
        source=source_digest("04_adapters"),
        json=stage_of_pair("04_adapters"),
    threads: CORES
    resources:
        mem_mb=ask("adapters", "mem_mb"),
        runtime=ask("adapters", "runtime"),
        gpu=GPU,
    shell:
        RUN


for RULE, NOTEBOOK in DIAGNOSTICS.items():

    rule:
        name:
            RULE
        input:
            models_of_pair,
            DATA,
            trait_file,
            task_files,
            rules.adapters.output.manifest,
            code(NOTEBOOK),
        output:
            notebook=f"{OUT}/{{pair}}/{{trait}}/notebooks/{NOTEBOOK}.ipynb",
            manifest=f"{OUT}/{{pair}}/{{trait}}/manifest_{NOTEBOOK.split('_')[0]}.json",
        params:
            notebook=NOTEBOOK,
            source=source_digest(NOTEBOOK),
            json=part_of_pair(NOTEBOOK, PROFILE.diagnostics),
        threads: CORES
        resources:
            mem_mb=ask(RULE, "mem_mb"),
            runtime=ask(RULE, "runtime"),
            gpu=GPU,
        shell:
            RUN


rule judge:
    input:
        models_of_pair,
        DATA,
        RUBRICS,
        trait_file,
        task_files,
        rules.adapters.output.manifest,
        code("06_judge"),
    output:
        notebook=f"{OUT}/{{pair}}/{{trait}}/notebooks/06_judge.ipynb",
        manifest=f"{OUT}/{{pair}}/{{trait}}/manifest_06.json",
    params:
        notebook="06_judge",
        source=source_digest("06_judge"),
        json=part_of_pair("06_judge", PROFILE.judge),
    threads: CORES
    resources:
        mem_mb=ask("judge", "mem_mb"),
        runtime=ask("judge", "runtime"),
        gpu=0,
    shell:
        RUN


rule black_box:
    input:
        models_of_pair,
        DATA,
        trait_file,
        task_files,
        rules.adapters.output.manifest,
        code("07_black_box"),
    output:
        notebook=f"{OUT}/{{pair}}/{{trait}}/notebooks/07_black_box.ipynb",
        manifest=f"{OUT}/{{pair}}/{{trait}}/manifest_07.json",
    params:
        notebook="07_black_box",
        source=source_digest("07_black_box"),
        json=part_of_pair("07_black_box", PROFILE.black_box),
    threads: CORES
    resources:
        mem_mb=ask("black_box", "mem_mb"),
        runtime=ask("black_box", "runtime"),
        gpu=GPU,
    shell:
        RUN


rule extensions:
    input:
        models_of_pair,
        DATA,
        adapters_both_ways,
        code("08_extensions"),
    output:
        notebook=f"{OUT}/{{pair}}/notebooks/08_extensions.ipynb",
        manifest=f"{OUT}/{{pair}}/manifest_08.json",
        results=f"{OUT}/{{pair}}/results_08.json",
    params:
        notebook="08_extensions",
        source=source_digest("08_extensions"),
        json=extensions_of_pair,
    threads: CORES
    resources:
        mem_mb=ask("extensions", "mem_mb"),
        runtime=ask("extensions", "runtime"),
        gpu=GPU,
    shell:
        RUN


rule paper:
    input:
        rules.architectures.output.manifest,
        expand(rules.extract.output.manifest, model=MODELS, trait=TRAIT_OF),
        expand(rules.validate.output.manifest, model=MODELS, trait=TRAIT_OF),
        expand(rules.direct_transfer.output.manifest, pair=PAIRS, trait=TRAIT_OF),
        expand(rules.adapters.output.manifest, pair=PAIRS, trait=TRAIT_OF),
        expand(
            f"{OUT}/{{pair}}/{{trait}}/manifest_{{number}}.json",
            pair=PAIRS,
            trait=DIAGNOSED,
            number=[name.split("_")[0] for name in DIAGNOSTICS.values()],
        ),
        expand(rules.judge.output.manifest, pair=MAIN, trait=JUDGED),
        expand(rules.black_box.output.manifest, pair=MAIN, trait=BOXED),
        expand(rules.extensions.output.manifest, pair=PAIRS),
        TEX_SOURCES,
        "benchmarks/results.json",
        "benchmarks/machine.json",
        "paper_src/prefvec/report/dashboard.html",
        "paper_src/prefvec/report/index.html",
        code("09_paper"),
    output:
        notebook=f"{OUT}/notebooks/09_paper.ipynb",
        manifest=f"{OUT}/manifest_09.json",
        results=f"{OUT}/experiment_results.json",
        summary=f"{OUT}/summary_report.md",
        verdicts=f"{OUT}/verdicts.json",
        dashboard=f"{OUT}/experiment_dashboard.html",
        numbers="paper_src/tex/generated/numbers.tex",
    params:
        notebook="09_paper",
        source=source_digest("09_paper"),
        json=parameters(
            "09_paper",
            pairs=[list(pair) for pair in PROFILE.pairs],
            traits=list(TRAIT_OF),
            claims=PROFILE.claims,
        ),
    resources:
        mem_mb=ask("paper", "mem_mb"),
        runtime=ask("paper", "runtime"),
        gpu=0,
    shell:
        RUN


rule pdf:
    input:
        rules.paper.output.numbers,
        TEX_SOURCES,
        "paper_src/tex/refs.bib",
    output:
        "paper_src/tex/main.pdf",
    resources:
        mem_mb=ask("pdf", "mem_mb"),
        runtime=ask("pdf", "runtime"),
        gpu=0,
    shell:
        "{PYTHON:q} -m prefvec.cli pdf"
