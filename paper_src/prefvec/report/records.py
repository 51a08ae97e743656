"""One number of a cell, in the layout of `experiment_results.json`."""

from prefvec.stats import Estimate
from prefvec.study import Study
from prefvec.transfer.sweep import Site

NONE = Estimate(float("nan"), float("nan"), float("nan"))


def record(
    study: Study, site: Site, method: str, dose: float | None, metric: str, value: Estimate | float, n: int,
    te: Estimate | None = None, **extra,
) -> dict:  # fmt: skip
    """A value with its interval, and which cell, method and dose it is of. `te`: the transfer efficiency
    that belongs to it; `extra`: further names."""
    value = value if isinstance(value, Estimate) else NONE._replace(value=float(value))
    number, low, high = value.as_json()
    te_value, te_low, te_high = (te or NONE).as_json()
    s = study.settings
    return {
        "source": s.source, "target": s.target, "trait": study.trait.name, "task": study.task.name,
        "method": method, "dose": dose, "dose_unit": "own-vector length",
        "layer_source": site.layer_source, "layer_target": site.layer_target, "n": int(n), "metric": metric,
        "value": number, "ci_low": low, "ci_high": high, "transfer_efficiency": te_value,
        "te_ci_low": te_low, "te_ci_high": te_high, "split_hashes": study.split_hashes, **extra,
    }  # fmt: skip
