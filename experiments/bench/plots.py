"""Measurements as pictures."""

# The Okabe-Ito palette, which people with any colour vision can tell apart.
COLOURS = {"local": "#0072B2", "tff": "#E69F00", "plain_tff": "#56B4E9", "keras": "#999999"}
_LIMIT = "#D55E00"
_NAMES = {"local": "fedlab", "tff": "TFF", "plain_tff": "plain TFF", "keras": "Keras loop"}


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return plt


def draw_seconds(workloads, abouts, path):
    """One panel a workload: seconds a round of each engine, and the limit that the machine sets."""
    plt = _pyplot()
    figure, axes = plt.subplots(
        1,
        len(workloads),
        figsize=(2.2 * len(workloads) + 0.6, 3.2),
        dpi=150,
        layout="constrained",
        squeeze=False,
    )
    for axis, (name, entry) in zip(axes[0], workloads.items()):
        engines = [engine for engine in COLOURS if engine in entry]
        medians = [entry[engine]["median_s"] for engine in engines]
        bars = axis.bar(
            range(len(engines)), medians, color=[COLOURS[engine] for engine in engines], width=0.7
        )
        spread = [
            [entry[e]["median_s"] - entry[e]["min_s"] for e in engines],
            [entry[e]["max_s"] - entry[e]["median_s"] for e in engines],
        ]
        axis.errorbar(
            range(len(engines)),
            medians,
            yerr=spread,
            fmt="none",
            ecolor="#333333",
            elinewidth=0.8,
            capsize=2,
        )
        for bar, engine in zip(bars, engines):
            ratio = f"\n{entry['ratio_' + engine]:.1f}x" if f"ratio_{engine}" in entry else ""
            if engine == "local":
                ratio = f"\n{entry['ratio_limit']:.1f}x limit"
            top = entry[engine]["max_s"]
            axis.annotate(
                f"{entry[engine]['median_s']:.3g} s{ratio}",
                (bar.get_x() + bar.get_width() / 2, top),
                (0, 3),
                textcoords="offset points",
                ha="center",
            )
        axis.axhline(entry["limit_s"], color=_LIMIT, linewidth=1.2, linestyle="--")
        axis.set_title(f"{name}\n{abouts[name]}", fontsize=9)
        axis.set_xticks(
            range(len(engines)), [_NAMES[engine].replace(" ", "\n") for engine in engines]
        )
        axis.set_ylim(0, 1.3 * max(entry[engine]["max_s"] for engine in engines))
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
    label = "limit: its products at the best rate of this machine.   TFF and Keras: times fedlab's seconds"
    handle = plt.Line2D([], [], color=_LIMIT, linewidth=1.2, linestyle="--", label=label)
    figure.legend(handles=[handle], loc="outside lower center", frameon=False)
    figure.supylabel("seconds a round")
    figure.savefig(path)
    plt.close(figure)


def draw_scaling(scaling, path):
    """Seconds a round against clients, both logarithmic, with the lines fitted."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(5, 3.4), dpi=150, layout="constrained")
    for name, entry in scaling.items():
        label = _NAMES[name]
        if entry["ms_per_client"] is not None:
            label += f": {entry['ms_per_client']:.2g} ms a client + {entry['constant_ms']:.0f} ms"
            fit = [
                (entry["constant_ms"] + entry["ms_per_client"] * n) / 1000 for n in entry["clients"]
            ]
            axis.plot(entry["clients"], fit, color=COLOURS[name], linewidth=1)
        axis.plot(
            entry["clients"],
            entry["seconds"],
            color=COLOURS[name],
            marker="o",
            linestyle="none",
            label=label,
        )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="clients a round, one step on one example each",
        ylabel="seconds a round",
    )
    axis.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside upper left")
    figure.savefig(path)
    plt.close(figure)


def draw_memory(memory, path):
    """Left: peak memory by round. Right: peak memory by clients a round."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.2), dpi=150, layout="constrained", sharey=True
    )
    for name, peaks in memory["rounds"].items():
        left.plot(range(1, 1 + len(peaks)), peaks, color=COLOURS[name], label=_NAMES[name])
        right.plot(
            memory["cohorts"]["clients"], memory["cohorts"][name], color=COLOURS[name], marker="o"
        )
    base = memory["cohorts"][next(iter(memory["rounds"]))][0]
    data = memory["cohorts"]["data_mb"]
    right.plot(
        memory["cohorts"]["clients"],
        [base + d - data[0] for d in data],
        color="#333333",
        linestyle=":",
        label="growth of the clients' data",
    )
    left.set(title="ten clients a round", xlabel="round", ylabel="peak memory, MB", ylim=(0, None))
    right.set(title="by cohort", xlabel="clients a round", xscale="log")
    left.legend(frameon=False)
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(axis="y", alpha=0.3)
    figure.savefig(path)
    plt.close(figure)
