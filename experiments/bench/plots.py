"""Draws measurements."""

from experiments import common

COLOURS = {
    "local": common.BLUE,
    "tff": common.ORANGE,
    "plain_tff": common.SKY,
    "flower": common.GREEN,
    "keras": common.LIGHT_GREY,
}
_NAMES = {
    "local": "fedlab",
    "tff": "TFF",
    "plain_tff": "plain TFF",
    "flower": "Flower",
    "keras": "Keras loop",
}


def draw_seconds(workloads, abouts, path):
    """Draws one panel per workload: seconds per round of each engine, and the machine's limit."""
    width, count = 2.2 * len(workloads) + 0.6, len(workloads)
    limit = dict(color=common.VERMILION, linewidth=1.2, linestyle="--")
    with common.picture(path, width, 3.2, columns=count, dpi=150) as (figure, [axes]):
        for axis, (name, entry) in zip(axes, workloads.items()):
            engines = [engine for engine in COLOURS if engine in entry]
            line = axis.axhline(
                entry["limit_s"],
                **limit,
                label="limit: its products at the best rate of this machine\n"
                "TFF and Keras: times fedlab's seconds",
            )
            for place, engine in enumerate(engines):
                _bar(axis, place, engine, entry)
            axis.set_title(f"{name}\n{abouts[name]}", fontsize=9)
            axis.set_xticks(
                range(len(engines)), [_NAMES[engine].replace(" ", "\n") for engine in engines]
            )
            axis.set_ylim(0, 1.3 * max(entry[engine]["max_s"] for engine in engines))
            axis.set_yticks([])
            axis.spines["left"].set_visible(False)
        figure.legend(handles=[line], loc="outside lower center", frameon=False)
        figure.supylabel("seconds per round")


def _bar(axis, place, engine, entry):
    measured = entry[engine]
    median = measured["median_s"]
    axis.bar(place, median, color=COLOURS[engine], width=0.7)
    axis.errorbar(
        place,
        median,
        yerr=[[median - measured["min_s"]], [measured["max_s"] - median]],
        fmt="none",
        ecolor=common.DARK_GREY,
        elinewidth=0.8,
        capsize=2,
    )
    ratio = f"\n{entry['ratio_' + engine]:.1f}x" if f"ratio_{engine}" in entry else ""
    if engine == "local":
        ratio = f"\n{entry['ratio_limit']:.1f}x limit"
    axis.annotate(
        f"{median:.3g} s{ratio}",
        (place, measured["max_s"]),
        (0, 3),
        textcoords="offset points",
        ha="center",
    )


def draw_scaling(scaling, path):
    """Draws seconds per round by the number of clients, both logarithmic, with fitted lines."""
    with common.picture(path, 5, 3.4, dpi=150) as (figure, [[axis]]):
        for name, entry in scaling.items():
            label, clients = _NAMES[name], entry["clients"]
            if entry["ms_per_client"] is not None:
                slope, constant = entry["ms_per_client"], entry["constant_ms"]
                label += f": {slope:.2g} ms per client + {constant:.0f} ms"
                fit = [(constant + slope * n) / 1000 for n in clients]
                axis.plot(clients, fit, color=COLOURS[name], linewidth=1)
            axis.plot(clients, entry["seconds"], "o", color=COLOURS[name], label=label)
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="clients per round, one step on one example each",
            ylabel="seconds per round",
        )
        axis.grid(alpha=0.3)
        figure.legend(frameon=False, loc="outside upper left")


def draw_memory(memory, path):
    """Draws peak memory by round on the left, and by clients per round on the right."""
    rounds, cohorts = memory["rounds"], memory["cohorts"]
    clients, data = cohorts["clients"], cohorts["data_mb"]
    with common.picture(path, 9, 3.2, columns=2, dpi=150, sharey=True) as (_, [(left, right)]):
        for name, peaks in rounds.items():
            left.plot(range(1, 1 + len(peaks)), peaks, color=COLOURS[name], label=_NAMES[name])
            right.plot(clients, cohorts[name], color=COLOURS[name], marker="o")
        base = cohorts[next(iter(rounds))][0] - data[0]
        right.plot(
            clients,
            [base + size for size in data],
            color=common.DARK_GREY,
            linestyle=":",
            label="growth of the clients' data",
        )
        left.set(
            title="ten clients per round", xlabel="round", ylabel="peak memory, MB", ylim=(0, None)
        )
        right.set(title="by cohort", xlabel="clients per round", xscale="log")
        for axis in (left, right):
            axis.legend(frameon=False)
            axis.grid(axis="y", alpha=0.3)
