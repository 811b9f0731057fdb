"""Writes measurements as tables and JSON."""

import csv
import json

from experiments.bench.measure import ENGINES


def with_ratios(measured, limits):
    """Returns what `measure` found, with the limits and with ratios to the local median."""
    local = measured.get("local", {}).get("median_s")
    others = [name for name in ENGINES if name != "local" and name in measured]
    ratios = (
        {f"ratio_{name}": measured[name]["median_s"] / local for name in others} if local else {}
    )
    if local:
        ratios["ratio_limit"] = local / limits["limit_s"]
        ratios["ratio_limit_shapes"] = local / limits["limit_shapes_s"]
    return {**measured, **limits, **ratios}


def rows(workloads):
    """Returns one flat dict per workload."""
    table = []
    for name, entry in workloads.items():
        row = {"workload": name}
        for engine in ENGINES:
            if engine in entry:
                row.update(
                    {
                        f"{engine}_{key}": entry[engine][key]
                        for key in ("median_s", "first_s", "peak_mb", "other_cores")
                    }
                )
        row.update({key: value for key, value in entry.items() if not isinstance(value, dict)})
        table.append(row)
    return table


_SECONDS = {
    "local s": ("local_median_s", ".3f"),
    "tff s": ("tff_median_s", ".3f"),
    "plain TFF s": ("plain_tff_median_s", ".3f"),
    "Flower s": ("flower_median_s", ".3f"),
    "keras s": ("keras_median_s", ".3f"),
    "tff / local": ("ratio_tff", ".2f"),
    "plain TFF / local": ("ratio_plain_tff", ".2f"),
    "Flower / local": ("ratio_flower", ".2f"),
    "keras / local": ("ratio_keras", ".2f"),
    "limit s": ("limit_s", ".3f"),
    "local / limit": ("ratio_limit", ".2f"),
    "limit at shapes s": ("limit_shapes_s", ".3f"),
    "local / it": ("ratio_limit_shapes", ".2f"),
}
_REST = {
    "first: local s": ("local_first_s", ".2f"),
    "tff s": ("tff_first_s", ".2f"),
    "plain TFF s": ("plain_tff_first_s", ".2f"),
    "Flower s": ("flower_first_s", ".2f"),
    "keras s": ("keras_first_s", ".2f"),
    "peak: local MB": ("local_peak_mb", ".0f"),
    "tff MB": ("tff_peak_mb", ".0f"),
    "plain TFF MB": ("plain_tff_peak_mb", ".0f"),
    "Flower MB": ("flower_peak_mb", ".0f"),
    "keras MB": ("keras_peak_mb", ".0f"),
    "max weight diff": ("max_weight_diff", ".1e"),
    "after round 1": ("first_weight_diff", ".1e"),
    "other cores": ("other_cores", ".2f"),
}


def markdown(report):
    """Returns the tables of a report."""
    parts = []
    if report["workloads"]:
        table = rows(report["workloads"])
        for row in table:
            row["other_cores"] = max(row[key] for key in row if key.endswith("other_cores"))
        parts += [
            "Seconds per round, median:",
            _table(table, _SECONDS),
            "First round, memory, agreement:",
            _table(table, _REST),
        ]
    if "stacks" in report:
        parts += ["Both stacks, seconds per round, median:", _stacks_table(report["stacks"])]
    if "scaling" in report:
        columns = {
            "clients": ("clients", "d"),
            **{f"{name} s": (name, ".3f") for name in report["scaling"]},
        }
        sizes = sorted({n for entry in report["scaling"].values() for n in entry["clients"]})
        table = [
            {
                "clients": n,
                **{
                    k: dict(zip(e["clients"], e["seconds"])).get(n)
                    for k, e in report["scaling"].items()
                },
            }
            for n in sizes
        ]
        lines = [
            f"{name}: {entry['ms_per_client']:.3f} ms per client + "
            f"{entry['constant_ms']:.1f} ms per round"
            for name, entry in report["scaling"].items()
            if entry["ms_per_client"] is not None
        ]
        parts += [
            "Seconds per round of clients with one step on one example:",
            _table(table, columns, "clients"),
            "\n".join(lines),
        ]
    if "memory" in report:
        rounds, runs, cohorts = (report["memory"][name] for name in ("rounds", "runs", "cohorts"))
        columns = {f"{name} MB": (name, ".0f") for name in rounds}
        parts += [
            "Peak memory per round:",
            _by_round({name: [None, *peaks] for name, peaks in rounds.items()}, columns),
        ]
        if runs:
            parts += [
                "Memory after each round of a run with a run folder:",
                _by_round(runs, columns),
            ]
        table = [dict(zip(cohorts, values)) for values in zip(*cohorts.values())]
        columns = {"clients": ("clients", "d"), "data MB": ("data_mb", ".0f"), **columns}
        parts += ["Peak memory by clients per round:", _table(table, columns, "clients")]
    if "states" in report:
        columns = {
            "clients": ("clients", "d"),
            "s per round": ("seconds", ".2f"),
            "peak MB": ("peak_mb", ".0f"),
            "file MB": ("file_mb", ".0f"),
        }
        rounds = [{"round": n, **row} for n, row in enumerate(report["states"], start=1)]
        shown = [row for row in rounds if row["round"] == 1 or row["round"] % 5 == 0]
        parts += [
            "Client states of SCAFFOLD:",
            _table(shown, {"round": ("round", "d"), **columns}, "round"),
        ]
    if "data" in report:
        parts += _data_parts(report["data"])
    for name, measured in report.get("methods", {}).items():
        table = [{"method": method, **numbers} for method, numbers in measured.items()]
        columns = {
            "method": ("method", "s"),
            "s per round": ("median_s", ".3f"),
            "over FedAvg": ("over_fed_avg", ".2f"),
            "CPU s": ("cpu_s", ".3f"),
            "CPU over FedAvg": ("cpu_over_fed_avg", ".2f"),
            "first": ("first_s", ".2f"),
        }
        parts += [f"Methods on {name}:", _table(table, columns, "method")]
    return "\n\n".join(parts) + "\n"


def _data_parts(measured):
    """The tables of `fedlab`'s data next to others'; `measured` is from `measure_data`."""
    seconds = {"s": ("median_s", ".3f"), "CPU s": ("cpu_s", ".3f")}
    ratios = {"over fedlab": ("ratio", ".1f"), "CPU over fedlab": ("cpu_ratio", ".1f")}
    ways = [{"batches": way, **entry} for way, entry in measured["batches"].items()]
    partitions = [
        {"partition": name, **entry}
        for name, entry in measured["partition"].items()
        if "absent" not in entry
    ]
    columns = {
        "partition": ("partition", "s"),
        "s": ("partition_s", ".2f"),
        "reading s": ("read_s", ".2f"),
        "clients read": ("read", "d"),
        "of": ("clients", "d"),
        "CPU s": ("cpu_s", ".2f"),
    }
    steps = {
        "step": ("step", "s"),
        "s": ("seconds", ".2f"),
        "CPU s": ("cpu_s", ".2f"),
        "own MB": ("memory_mb", ".0f"),
        "peak MB with files": ("peak_mb", ".0f"),
    }
    absent = measured["partition"]["flower"].get("absent")
    return [
        "Shuffled batches of clients of 28x28 images, seconds per epoch of all:",
        _table(ways, {"batches": ("batches", "s"), **seconds, **ratios}, "batches"),
        "Partition by writer:",
        _table(partitions, columns, "partition"),
        *([f"Flower Datasets was not measured: {absent}."] if absent else []),
        "A population in a folder:",
        _table(measured["population"], steps, "step"),
    ]


def _stacks_table(measured):
    """A row per workload and engine.

    `measured` is a list of what `measure_stacks` returns, with "workload" and "engine".
    """
    table, names = [], []
    for entry in measured:
        names = [name for name, value in entry.items() if isinstance(value, dict)]
        row = {key: value for key, value in entry.items() if key not in names}
        for name in names:
            row.update({f"{name}_{key}": value for key, value in entry[name].items()})
        row["other_cores"] = max(entry[name]["other_cores"] for name in names)
        table.append(row)
    over = f"{names[0]} / {names[-1]}"
    columns = {
        "engine": ("engine", "s"),
        **{f"{name} s": (f"{name}_median_s", ".3f") for name in names},
        over: ("ratio", ".2f"),
        **{f"{name} CPU s": (f"{name}_cpu_s", ".3f") for name in names},
        f"CPU {over}": ("cpu_ratio", ".2f"),
        **{f"first: {name} s": (f"{name}_first_s", ".2f") for name in names},
        **{f"peak: {name} MB": (f"{name}_peak_mb", ".0f") for name in names},
        "max weight diff": ("max_weight_diff", ".1e"),
        "after round 1": ("first_weight_diff", ".1e"),
        "other cores": ("other_cores", ".2f"),
    }
    return _table(table, columns)


def _by_round(values, columns):
    """A table of some rounds; `values` has a list per name, whose index is the round."""
    last = len(next(iter(values.values()))) - 1
    shown = [n for n in sorted({1, 2, 5, 10, 20, 50, 100, 150, 200, last}) if n <= last]
    table = [{"round": n, **{name: each[n] for name, each in values.items()}} for n in shown]
    return _table(table, {"round": ("round", "d"), **columns}, "round")


def _table(table, columns, first="workload"):
    titles = [first] if first == "workload" else []
    titles += [
        title
        for title, (key, _) in columns.items()
        if any(row.get(key) is not None for row in table)
    ]
    lines = [titles]
    for row in table:
        cells = [row["workload"]] if first == "workload" else []
        values = [
            (row.get(columns[title][0]), columns[title][1]) for title in titles if title in columns
        ]
        lines.append(
            cells + ["" if value is None else format(value, form) for value, form in values]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    texts = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) + " |"
        for line in lines
    ]
    return "\n".join(
        [
            texts[0],
            "| " + " | ".join("-" * (width - 1) + ":" for width in widths) + " |",
            *texts[1:],
        ]
    )


def write(report, folder, json_path):
    """Writes table.md, table.csv and report.json to `folder`, and the JSON to `json_path` too."""
    (folder / "table.md").write_text(markdown(report), encoding="utf-8")
    table = rows(report["workloads"])
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in table for key in row)))
        writer.writeheader()
        writer.writerows(table)
    for path in filter(None, (folder / "report.json", json_path)):
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
