"""Pictures of measurements."""

import json

import pytest
import resay
from conftest import finished

pytest.importorskip("matplotlib")


def test_a_run_is_drawn(make, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from resay import plot

    engine = make("tcp://127.0.0.1:0").start()
    file = tmp_path / "run.json"
    done = finished([resay.find_command(), "bench", engine.listeners[0].url, "-d", "300ms", "--warmup", "10ms", "--json", file])
    assert done.returncode == 0, done
    axes = plot.latency(file)
    assert axes.get_title() == "latency" and len(axes.lines) == 1
    assert len(plot.throughput(file, json.loads(file.read_text())).lines) == 2
    axes.figure.savefig(tmp_path / "latency.png")
    with pytest.raises(ValueError):
        plot.latency({"schema": "other"})
