"""When the jobs of a profile run: list scheduling on cores, or on GPUs, as the Snakefile does."""

from typing import NamedTuple

from prefvec.plan.costs import Costs
from prefvec.plan.counting import Stage

GPU_RULES = (
    "extract", "validate", "direct_transfer", "adapters", "magnitude", "basis", "layers", "extensions",
)  # fmt: skip


class Scheduled(NamedTuple):
    """One job's start and duration, seconds, and the keys that it found computed."""

    stage: Stage
    start: float
    seconds: float
    known: frozenset


def schedule(
    stages: list[Stage], costs: Costs, cores: int, gpus: int = 0, one_by_one: bool = False
) -> list[Scheduled]:
    """Start every job, in the order given, as soon as what it needs is there and there is room.

    Without `gpus`, a stage takes all `cores` or half of them. With them, a stage with a model takes
    one GPU and the others nothing. Work that another job has finished before is not repeated; two
    jobs that run at the same time both do what they share.
    """
    waiting, running, done = list(stages), [], []
    free_cores, free_gpus, now = cores, gpus, 0.0
    known: set[tuple] = set()
    while waiting or running:
        finished = {job.stage.id for job in done}
        for stage in list(waiting):
            on_gpu = gpus > 0 and stage.rule in GPU_RULES
            needs = 0 if gpus else min(cores, cores if stage.whole else max(1, cores // 2))
            room = free_gpus >= on_gpu and free_cores >= needs and not (one_by_one and running)
            if room and finished.issuperset(stage.needs):
                share = 0 if gpus else cores if one_by_one else needs
                seconds = costs.seconds(stage, known, share)
                running.append(Scheduled(stage, now, seconds, frozenset(known)))
                waiting.remove(stage)
                free_cores, free_gpus = free_cores - needs, free_gpus - on_gpu
        first = min(running, key=lambda job: job.start + job.seconds)
        now = first.start + first.seconds
        running.remove(first)
        done.append(first)
        known |= {work.key for work in first.stage.work}
        if gpus:
            free_gpus += first.stage.rule in GPU_RULES
        else:
            free_cores += min(cores, cores if first.stage.whole else max(1, cores // 2))
    order = {stage.id: i for i, stage in enumerate(stages)}
    return sorted(done, key=lambda job: order[job.stage.id])


def elapsed(jobs: list[Scheduled]) -> float:
    """Seconds from the first start to the last end."""
    return max(job.start + job.seconds for job in jobs)


def most_memory(jobs: list[Scheduled], costs: Costs) -> tuple[float, float]:
    """Most MiB of the host at any time, jobs side by side added up; most of any one accelerator."""
    host = 0.0
    for now in jobs:
        beside = [j for j in jobs if j.start <= now.start < j.start + j.seconds]
        host = max(host, sum(costs.memory(job.stage)[0] for job in beside))
    return host, max(costs.memory(job.stage)[1] for job in jobs)
