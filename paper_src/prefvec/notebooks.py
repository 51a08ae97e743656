"""Run a notebook with checked parameters: unknown names and wrong types never reach a kernel.

papermill itself only warns about an unknown parameter and guesses types. Here the parameters cell
is read as Python literals and is the contract.
"""

import ast
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefvec.errors import ConfigError, PrefvecError, TraitError
from prefvec.models.registry import require_white_box, resolve
from prefvec.paths import NOTEBOOKS, ROOT
from prefvec.profile import SOME_TRAITS, Settings, load_profile, suggest
from prefvec.store import canonical_hash
from prefvec.tasks import load_task
from prefvec.traits import load_trait

# jsonschema, on which nbformat and papermill rest, would compile a grammar of addresses that no notebook
# holds: 3 s at each start. It does without where the module is not there.
sys.modules.setdefault("rfc3987_syntax", None)

KERNEL_STARTS = 3
MODEL_PARAMETERS = ("source", "target", "model")
TRAIT_PARAMETERS = ("trait", "control_trait")
FILE_PARAMETERS = (*TRAIT_PARAMETERS, "task")


def find_notebook(name: str) -> Path:
    """A notebook by path, by name (`03_direct_transfer`) or by number (`03`)."""
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path.absolute()
    found = sorted(NOTEBOOKS.glob(f"{path.stem}*.ipynb"))
    if len(found) != 1:
        known = ", ".join(sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")))
        raise ConfigError(f"notebook '{name}' is unknown: use one of {known}")
    return found[0]


def diagnostic_notebooks() -> dict[str, str]:
    """The diagnostics' notebooks by the name of their rule: `layers` for `05c_layers`."""
    found = sorted(path.stem for path in NOTEBOOKS.glob("05*_*.ipynb"))
    return {stem.split("_", 1)[1]: stem for stem in found}


def parameters_of(path: Path) -> dict[str, object]:
    """Names and default values of a notebook's `parameters` cell.

    Raises ConfigError when there is not exactly one such cell, or a default is not a literal.
    """
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ConfigError(
            f"{path.name}: needs exactly one cell tagged `parameters`, has {len(cells)}"
        )
    values = {}
    for node in ast.parse(cells[0].source).body:
        target = (
            node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        )
        try:
            values[target.id] = ast.literal_eval(node.value)
        except (AttributeError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{path.name}: line {node.lineno} of the parameters cell is not `name = literal`"
            ) from error
    return values


def source_digest(name: str) -> str:
    """Hash of a notebook's cells without their outputs: what a rule depends on."""
    import nbformat

    cells = nbformat.read(find_notebook(name), as_version=4).cells
    return canonical_hash([[cell.cell_type, cell.source] for cell in cells])[:16]


def checked_parameters(path: Path, given: dict[str, object]) -> dict[str, object]:
    """The given parameters if the notebook knows them and their types and values are right.

    Raises ConfigError or TraitError naming the parameter and the fix.
    """
    defaults = parameters_of(path)
    for name, value in given.items():
        if name not in defaults:
            raise ConfigError(f"{path.stem}: unknown parameter '{name}'{suggest(name, defaults)}")
        _check_type(path, name, value, defaults[name])
    values = {**defaults, **given}
    for name in MODEL_PARAMETERS:
        if name in values:
            require_white_box(resolve(str(values[name])))
    for name in TRAIT_PARAMETERS:
        if name in values:
            load_trait(str(values[name]))
    if "task" in values:
        load_task(str(values["task"]))
    known = {k: v for k, v in values.items() if k in Settings.model_fields}
    model = values.get("model", "unset")
    Settings.checked({"source": model, "target": model, **known})
    return given


@contextmanager
def results_in(results: Path, figures: Path) -> Iterator[None]:
    """Kernels that are started meanwhile write there: it is fixed when they import the library."""
    places = {"PREFVEC_RESULTS": results, "PREFVEC_FIGURES": figures}
    before = {name: os.environ.get(name) for name in places}
    os.environ |= {name: str(place) for name, place in places.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def execute(path: Path, given: dict[str, object], output: Path) -> Path:
    """Execute a notebook with papermill; `output` appears only when it ran to its end, and beside it the
    same as a page, `<name>.html`.

    Raises PrefvecError with the failing cell's error on one line; the partly executed notebook is
    kept beside the output as `<name>.failed.ipynb`.
    """
    checked_parameters(path, given)
    import logging

    import papermill
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.WARNING)
    output = Path(output).absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    working = output.with_name(f".{output.stem}.running.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    _die_with_pipeline()
    try:
        for attempt in range(KERNEL_STARTS):
            try:
                papermill.execute_notebook(
                    str(path), str(working), parameters=given, kernel_name="python3", cwd=str(ROOT),
                    progress_bar={"disable": None, "desc": path.stem},
                    extra_arguments=["--log-level=50"],  # not its transport notices, nor the interrupt that ends it
                )  # fmt: skip
                break
            except RuntimeError as error:
                # Kernels started side by side race for ports; only a start-up is tried again.
                if "didn't respond" not in str(error) or attempt == KERNEL_STARTS - 1:
                    raise
    except PapermillExecutionError as error:
        os.replace(working, failed)
        raise PrefvecError(
            f"{path.stem} stopped: {error.evalue or error.ename} (executed up to there: {failed})"
        ) from error
    except RuntimeError as error:
        if "Kernel died" in str(error):
            raise PrefvecError(
                f"{path.stem}: its kernel died, most likely for want of memory: close other "
                "programs, or lower n_styles and n_evaluation"
            ) from error
        raise
    else:
        failed.unlink(missing_ok=True)
        write_page(working, output.with_suffix(".html"), {**parameters_of(path), **given})
        os.replace(working, output)
    finally:
        working.unlink(missing_ok=True)
    return output


def write_page(executed: Path, page: Path, values: dict[str, object]) -> Path:
    """The HTML page of a notebook that was executed with the parameters given."""
    from prefvec.report import pages

    private = [Path(path).parent for path in re.findall(r'"(/[^"]+)"', json.dumps(values))]
    return pages.write_page(executed, page, subject_of(values), private)


def write_missing_pages(results: Path) -> list[Path]:
    """Pages of the executed notebooks under a results folder that have none, or an older one."""
    import nbformat

    written = []
    for path in sorted(Path(results).rglob("notebooks/[0-9]*.ipynb")):
        page = path.with_suffix(".html")
        ran = not path.stem.endswith(".failed")
        if ran and not (page.exists() and page.stat().st_mtime >= path.stat().st_mtime):
            given = nbformat.read(path, as_version=4).metadata.get("papermill", {})
            values = {**parameters_of(path), **given.get("parameters", {})}
            written.append(write_page(path, page, values))
    return written


def subject_of(values: dict[str, object]) -> str:
    """What a notebook was run for: its profile, models and trait."""
    models = [str(values[name]) for name in MODEL_PARAMETERS if name in values]
    models = [Path(name).name if Path(name).is_absolute() else name for name in models]
    traits = [values["trait"]] if "trait" in values else values.get("traits", [])
    parts = [f"profile {values['profile']}"] if "profile" in values else []
    return ", ".join([*parts, *([" → ".join(models)] if models else []), *map(_trait_name, traits)])


def found_files(given: dict[str, object]) -> dict[str, object]:
    """The parameters with trait and task files as absolute paths where the working directory is not
    the repository, in which kernels run."""
    out = dict(given)
    for name in FILE_PARAMETERS:
        path = Path(str(given.get(name, "")))
        if path.suffix and path.is_file() and Path.cwd() != ROOT:
            out[name] = str(path.absolute())
    return out


def profile_parameters(path: Path, profile: str, chosen: dict[str, object]) -> dict[str, object]:
    """A profile's settings as far as the notebook declares them, those of the trait and of the pair
    included, and what was chosen on top."""
    declared = parameters_of(path)
    used = load_profile(profile)
    source, target, trait = (
        str({**declared, **chosen}.get(name, "")) for name in ("source", "target", "trait")
    )
    values = {**used.settings_of(trait), **used.extensions_of(source, target).model_dump()}
    for part in SOME_TRAITS:
        values |= getattr(used, part).model_dump()
    values |= {"profile": used.name, "traits": list(used.traits), "claims": used.claims}
    return {**{k: v for k, v in values.items() if k in declared}, **chosen}


def _trait_name(trait: str) -> str:
    try:
        return load_trait(trait).name
    except TraitError:  # its file is gone since the run
        return Path(trait).stem


def _check_type(path: Path, name: str, value: object, default: object) -> None:
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return
    if type(value) is not type(default):
        raise ConfigError(
            f"{path.stem}: parameter '{name}' must be {type(default).__name__} like {default!r}, "
            f"got {type(value).__name__} {value!r}"
        )
    if isinstance(default, list) and default:
        for item in value:
            _check_type(path, f"{name}[…]", item, default[0])


def _die_with_pipeline() -> None:
    """End with the pipeline that started this stage, even if that was killed outright, so that a
    repeated command never meets an orphan of the first."""
    parent = int(os.environ.get("PREFVEC_PIPELINE_PID", 0))
    if not parent:
        return

    def watch() -> None:
        while True:
            time.sleep(1)
            try:
                os.kill(parent, 0)
            except ProcessLookupError:
                os.kill(os.getpid(), signal.SIGKILL)  # at once: its output pipe is gone too

    threading.Thread(target=watch, daemon=True).start()
