"""Pictures of what `resay bench --json FILE` has measured. It needs matplotlib: `pip install "resay[plot]"`.

    from resay import plot
    plot.latency("before.json", "after.json").figure.savefig("latency.png")
"""

import json
import os

__all__ = ["latency", "throughput"]


def _document(source):
    """A document: read from a file, or as it is."""
    if isinstance(source, (str, os.PathLike)):
        with open(source, encoding="utf-8") as file:
            source = json.load(file)
    if source.get("schema") != "resay.bench/1" or source.get("kind") != "run":
        raise ValueError("this is not the JSON of a run of resay bench")
    return source


def _axes(axes):
    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots()
    return axes


def _label(document):
    settings = document["settings"]
    return f"{settings['transport']}, {settings['connections']} × {settings['message_bytes']} B, {settings['expect']}"


def latency(*documents, axes=None):
    """Latency by percentile, in which each nine has the same width. Returns the axes."""
    axes = _axes(axes)
    for document in map(_document, documents):
        points = [(1 / (1 - each["percentile"] / 100), each["us"]) for each in document["latency_us"]["percentiles"] if each["percentile"] < 100]
        axes.plot(*zip(*points), label=_label(document))
    axes.set(xscale="log", xlabel="percentile", ylabel="latency in µs", title="latency")
    ticks = [1, 10, 100, 1000, 10_000]
    axes.set_xticks(ticks, ["0", "90", "99", "99.9", "99.99"])
    axes.legend()
    return axes


def throughput(*documents, axes=None):
    """Answers a second over time. Returns the axes."""
    axes = _axes(axes)
    for document in map(_document, documents):
        points = [(each["from_s"], each["messages_per_s"]) for each in document["intervals"]]
        axes.plot(*zip(*points), label=_label(document))
    axes.set(xlabel="s", ylabel="answers a second", title="throughput")
    axes.legend()
    return axes
