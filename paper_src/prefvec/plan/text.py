"""The plan as a table that fits a terminal."""

from prefvec.plan.report import assumption_file

GIB = 1024
WORK = {
    "generate": "answers",
    "capture": "capture",
    "score": "scores",
    "ridge": "maps",
    "ask": "requests",
}


def as_text(record: dict) -> str:
    """The whole plan, in lines of about 110 characters."""
    blocks = []
    if record["here"]:
        blocks += [_one(record["here"], f"profile {record['profile']} on this machine")]
        blocks += [_checks(record["checks"])]
    for item in record["gpu"]:
        number = "one GPU" if item["gpus"] == 1 else f"{item['gpus']} GPUs"
        title = f"profile {item['profile']} on {number}"
        whole = item["gpus"] == 1 and item["profile"] == record["profile"]
        blocks.append(_one(item, title) if whole else _totals(item, title))
    return "\n\n".join(blocks)


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _one(item: dict, title: str) -> str:
    head = f"{'stage':<64} {'answers':>7} {'tokens':>8} {'captured':>8} {'time':>7} {'memory':>8}"
    lines = []
    for row in item["stages"]:
        if row["stage"].startswith("model ") and row["seconds"] <= 2:
            continue
        counts = [row["new_rows"], row["new_tokens"], row["captured_tokens"]]
        shown = "".join(f" {value or '':>{width}}" for value, width in zip(counts, (7, 8, 8), strict=True))  # fmt: skip
        memory = row["device_mib"] or row["host_mib"]
        lines.append(
            f"{_short(row['stage'], 64):<64}{shown} {duration(row['seconds']):>7} {memory / GIB:>4.1f} GiB"
        )
    return "\n".join([_totals(item, title), "", head, *lines])


def _totals(item: dict, title: str) -> str:
    side = (
        f"{item['gpus']} at a time"
        if item["gpus"]
        else f"{item['cores']} cores, a model's stages two at a time"
    )
    memory = f"memory {item['host_mib'] / GIB:.1f} GiB"
    if item["host_has_mib"] < item["host_mib"] and not item["gpus"]:
        memory += f" (this machine has {item['host_has_mib'] / GIB:.1f})"
    if item["gpus"]:
        memory += f", GPU {item['device_mib'] / GIB:.1f} of {item['device_has_mib'] / GIB:.0f} GiB"
        if item["device_mib"] > item["device_has_mib"]:
            memory += " — TOO LITTLE: choose a larger GPU or smaller models"
    disk = item["disk_mib"]
    work: dict[str, float] = {}
    for row in item["stages"]:
        for kind, seconds in row["seconds_by_work"].items():
            work[kind] = work.get(kind, 0) + seconds
    shares = ", ".join(f"{WORK[k]} {duration(v)}" for k, v in sorted(work.items(), key=lambda p: -p[1]))  # fmt: skip
    lines = [
        f"== {title}: {duration(item['elapsed_seconds'])} ==",
        f"device   {item['device']} ({item['basis']})",
        f"time     {duration(item['elapsed_seconds'])} with {side}; {duration(item['one_by_one_seconds'])} one by one",
        f"of that  {shares or 'nothing to compute'}",
        f"memory   {memory.removeprefix('memory ')}",
        f"disk     models {disk['models'] / GIB:.1f} GiB ({disk['models_there'] / GIB:.1f} there), "
        f"cache {disk['cache']:.0f} MiB, results and figures {disk['results']:.0f} MiB",
    ]
    for name, length in item["answer_lengths"].items():
        lines.append(f"answers  {name}: {length['tokens']:.0f} of {item['limit']} tokens ({length['basis']})")  # fmt: skip
    if item["prompts_estimated"]:
        lines.append(
            f"prompts  4 characters a token for {', '.join(item['prompts_estimated'])} (not fetched)"
        )
    if "assumed" in item["basis"]:
        lines.append(f"assumed  rates are a data sheet's, not measured: edit {assumption_file()}")
    return "\n".join(lines)


def _checks(rows: list[dict]) -> str:
    if not rows:
        return "no run with these settings to compare with"
    head = f"{'measured in real runs':<64} {'commit':>7} {'threads':>7} {'measured':>9} {'plan':>8} {'ratio':>6} {'memory':>7}"  # fmt: skip
    lines = [
        f"{_short(r['stages'], 64):<64} {r['commit']:>7} {r['threads']:>7} {r['measured_seconds']:>7.0f} s "
        f"{r['predicted_seconds']:>6.0f} s {r['time_ratio']:>6.2f} {r['memory_ratio']:>7.2f}"
        for r in rows
    ]
    measured = sum(r["measured_seconds"] for r in rows)
    total = sum(r["predicted_seconds"] for r in rows)
    lines.append(f"{'sum':<64} {'':>7} {'':>7} {measured:>7.0f} s {total:>6.0f} s {total / measured:>6.2f}")  # fmt: skip
    return "\n".join([head, *lines])


def _short(text: str, width: int) -> str:
    return (
        text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width - width // 2) :]}"
    )
