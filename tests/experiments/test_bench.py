"""The benchmark: what it counts, what it writes, what it refuses. No time has a fixed limit."""

import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import timeit

import numpy as np
import pytest
import tensorflow as tf

from experiments.bench import limit, measure, methods, processes, report, scaling, stacks, states
from experiments.bench.workloads import TINY, WORKLOADS, Product, conv, dense, recurrent
from fedlab import _modules

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = TINY._replace(num_clients=3, num_batches=4, batch_size=5)


def bench(*arguments):
    command = [sys.executable, "-m", "experiments.bench.run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


# Weights by hand. W1: embedding 86 256; GRU 3 (256 1024 + 1024 1024 + 2 1024); dense 1024 86 + 86.
# W2: embedding 90 8; LSTM 4 ((8 + 256) 256 + 256), 4 ((256 + 256) 256 + 256); dense 256 90 + 90.
# W3: 9 32 + 32; 9 32 64 + 64; 12 12 64 128 + 128; 128 62 + 62.
# W3b: 784 200 + 200; 200 200 + 200; 200 62 + 62.
# W4: embeddings (8000 + 128) 128; first norm 256; heads 2 128 + 2; twice
#   4 (128 128 + 128) + 128 512 + 512 + 512 128 + 128 + 2 256.
@pytest.mark.parametrize(
    "name, num_weights",
    [
        ("W1", 22_016 + 3_938_304 + 88_150),
        ("W2", 720 + 271_360 + 525_312 + 23_130),
        ("W3", 320 + 18_496 + 1_179_776 + 7_998),
        ("W3b", 157_000 + 40_200 + 12_462),
        ("W4", 1_040_384 + 256 + 2 * (66_048 + 66_048 + 65_664 + 512) + 258),
    ],
)
def test_models_are_the_ones_of_the_table(name, num_weights):
    workload = WORKLOADS[name]
    model = workload.make_model()
    assert model.count_params() == num_weights
    assert len(model.trainable_weights) == len(model.weights)
    columns = workload.make_columns(np.random.default_rng(0), 3)
    predicted = model(columns["x"])
    assert predicted.shape[:-1] == columns["y"].shape
    assert columns["y"].max() < predicted.shape[-1]


# FLOPs of a training step by hand: 2 FLOPs per multiply-add; three products per layer, two where
# no gradient of the input is needed.
# W1, a character: 2 (256 3072 + 1024 3072 + 1024 86) = 8_040_448, thrice, 800 characters a step.
# W2: 2 (8 1024 + 256 1024 + 256 1024 + 256 1024 + 256 90) = 1_635_328, thrice, 320 characters
#   per step.
# W3, per image: 26 26 9 32 2 = 389_376; 24 24 9 32 64 2 = 21_233_664;
#   9216 128 2 + 128 62 2 = 2_375_168.
# W3b: 2 784 200 = 313_600; 2 (200 200 + 200 62) = 104_800.
# W4, per token and layer: projections 4 2 128 128, scores and values 2 2 128 128,
#   ffn 2 2 128 512: 458_752; heads 512.
@pytest.mark.parametrize(
    "name, step",
    [
        ("W1", 3 * 800 * 8_040_448),
        ("W2", 3 * 320 * 1_635_328),
        ("W3", 20 * (2 * 389_376 + 3 * (21_233_664 + 2_375_168))),
        ("W3b", 20 * (2 * 313_600 + 3 * 104_800)),
        ("W4", 3 * 1024 * (2 * 458_752 + 512)),
    ],
)
def test_flops_by_hand(name, step):
    workload = WORKLOADS[name]
    assert sum(product.flops for product in workload.products) == step
    assert workload.flops == step * workload.num_batches * workload.num_clients


def test_flops_of_layers_by_hand():
    assert [product.flops for product in dense(2, 3, 5)] == [60, 60, 60]
    assert len(dense(2, 3, 5, input_gradient=False)) == 2
    # 5 x 5 image, 3 x 3 kernel: 9 positions; 9 (positions) 9 (kernel) 2 (in) 4 (out) 2 = 1296.
    assert [product.flops for product in conv(1, 5, 2, 4, 3)] == [1296] * 3
    # 7 steps, batch 2: inputs 14 rows of 3 by 4 * 5; states 7 times 2 rows of 5 by 4 * 5.
    assert sum(product.flops for product in recurrent(2, 7, 3, 5, gates=4)) == 3 * (
        2 * 14 * 3 * 20
    ) + 3 * (2 * 7 * 2 * 5 * 20)


def test_products_multiply_as_their_layers_do():
    """Each op's factors and result have the shapes that `flops` counts."""
    for product in (Product("matmul", (2, 3, 4, 5)), *conv(2, 7, 3, 4, 3)):
        left, right, multiply = limit._factors(tf, product)
        result = multiply(tf.random.normal(left), tf.random.normal(right)).shape
        assert (
            result
            == {
                "matmul": [2, 3, 5],
                "conv": [2, 5, 5, 4],
                "conv_input": [2, 7, 7, 3],
                "conv_kernel": [3, 3, 3, 4],
            }[product.op]
        )


def test_limits_by_hand():
    """3 clients, 4 steps; per step two products of 600 FLOPs and one of 300.

    They run at 100 and 50 FLOPs per second; the best rate is 200.
    """
    products = [
        Product("matmul", (1, 10, 10, 3)),
        Product("matmul", (1, 10, 10, 3)),
        Product("matmul", (1, 10, 5, 3)),
    ]
    workload = SMALL._replace(make_products=lambda batch: products)
    rates = {
        ("matmul", (1, 10, 10, 3)): {"flops_per_s": 100.0},
        ("matmul", (1, 10, 5, 3)): {"flops_per_s": 50.0},
    }
    assert limit.limits(workload, {"flops_per_s": 200.0}, rates) == {
        "limit_s": 12 * 1500 / 200,
        "limit_shapes_s": 12 * (12 + 6),
    }


@pytest.mark.slow
def test_rates_are_measured_at_every_shape():
    products = [*dense(2, 3, 4), *conv(1, 5, 2, 4, 3)]
    best, rates = limit.measure_rates(products, 1, 0.01, squares=(16, 64))
    assert set(rates) == {(p.op, p.shape) for p in products} | {
        ("matmul", (1, n, n, n)) for n in (16, 64)
    }
    fastest = max(rate["flops_per_s"] for (op, _), rate in rates.items() if op == "matmul")
    assert rates["matmul", best["shape"]]["flops_per_s"] == best["flops_per_s"] == fastest > 0


@pytest.mark.slow
def test_the_limit_of_small_products_is_below_a_plain_loop():
    """At their measured rates, W3b's products take less time than calling TensorFlow for each."""
    products = WORKLOADS["W3b"].products
    rates, loop_s = {}, 0.0
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        for product in products:
            rate = limit._rate(tf, product, threads, num_threads=1, seconds_each=0.3)
            rates[product.op, product.shape] = {"flops_per_s": rate}
            left, right, multiply = limit._factors(tf, product)
            call = functools.partial(multiply, tf.random.normal(left), tf.random.normal(right))
            loop_s += min(timeit.repeat(call, number=50, repeat=20)) / 50
    workload = WORKLOADS["W3b"]._replace(num_clients=1, num_batches=1)
    limits = limit.limits(workload, {"flops_per_s": 1.0}, rates)
    assert limits["limit_shapes_s"] < loop_s


def test_line_through_points_by_hand():
    assert scaling.line([100, 1000, 10000], [0.25, 1.15, 10.15]) == pytest.approx(
        {"ms_per_client": 1.0, "constant_ms": 150.0}
    )


def test_weight_difference_by_hand():
    a = [np.array([1.0, 2.0]), np.array([0.5, 0.0])]
    b = [np.array([1.0, 4.0]), np.array([0.25, 0.0])]
    assert measure.max_weight_diff(a, b) == 1.0  # |2 - 4| / 4 = 0.5, |0.5 - 0.25| / 0.25 = 1
    assert measure.max_weight_diff(a, a) == 0.0


def test_peak_memory_is_found_and_forgotten():
    wait = "print(flush=True); sys.stdin.readline()"
    code = f"import sys; block = bytearray(200_000_000); {wait}; del block; {wait}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        assert 200 < processes.peak_mb(child.pid) < 250
        assert 200 < processes.resident_mb(child.pid) < 250
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        assert processes.peak_mb(child.pid) > 200
        processes.forget_peak(child.pid)
        assert processes.peak_mb(child.pid) < 100
        child.stdin.write("\n")


@pytest.fixture(scope="module")
def measured():
    return measure.measure(SMALL, ["local", "keras"], 2, seed=5)


@pytest.mark.slow
def test_engines_agree(measured):
    assert 0 <= measured["first_weight_diff"] < 2e-6
    assert measured["max_weight_diff"] == measured["weight_diff"]["keras"] < 5e-6


def test_script_is_executable():
    assert os.access(ROOT / "scripts" / "bench", os.X_OK)


def test_the_keras_loop_is_federated_averaging():
    """Against the mean of two clients' weights after plain gradient steps on the same batches."""
    from experiments.bench.keras_loop import KerasProcess
    from fedlab.engines.batches import client_batches

    setting = SMALL._replace(num_clients=2).setting(seed=1)
    weights = [w.numpy() for w in setting.model.trainable_weights]
    assert np.abs(weights[0]).max() > 0.1
    with contextlib.closing(KerasProcess(setting)) as process:
        state, _ = process.run_round(process.init(weights, []), 3, ["client_1", "client_0"])
    trained = []
    for client_id in ("client_0", "client_1"):
        kernel, bias = weights
        columns = client_batches(setting, 3, client_id).columns
        for x, y in zip(columns["x"], columns["y"]):
            error = (tf.nn.softmax(x @ kernel + bias).numpy() - np.eye(62)[y]) / len(
                y
            )  # of the mean cross-entropy, by the logits
            kernel, bias = kernel - 0.1 * x.T @ error, bias - 0.1 * error.sum(axis=0)
        trained.append([kernel, bias])
    for value, ours in zip(zip(*trained), process.weights(state)[0]):
        np.testing.assert_allclose(ours, np.mean(value, axis=0), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_failing_engine_is_named(capfd):
    with (
        pytest.raises(RuntimeError, match="engine 'spark': ValueError: .*expected local, tff"),
        measure.running(["spark"], SMALL, 0),
    ):
        pass
    assert "Traceback" in capfd.readouterr().err  # of the child, for whoever mends it


@pytest.mark.slow
def test_an_engine_that_is_killed_is_named():
    with measure.running(["keras"], SMALL, 0) as children:
        os.kill(children["keras"].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="engine 'keras' ended with exit code -9"):
            children["keras"].start()


@pytest.mark.slow
def test_report_has_the_layout(measured):
    """The ratios are those of the medians, and the tables show the numbers."""
    numbers = {
        "local": {**measured["local"], "median_s": 0.5},
        "keras": {**measured["keras"], "median_s": 2.0},
    }
    entry = report.with_ratios({**measured, **numbers}, {"limit_s": 0.25, "limit_shapes_s": 0.4})
    assert (entry["ratio_keras"], entry["ratio_limit"], entry["ratio_limit_shapes"]) == (
        4.0,
        2.0,
        1.25,
    )
    assert "ratio_tff" not in entry
    text = report.markdown({"workloads": {"tiny": entry}})
    assert (
        "| tiny |" in text.replace("  ", "").replace("| ", "| ")
        and "4.00" in text
        and "2.000" in text
    )


@pytest.mark.slow
def test_stacks_start_from_the_same_weights():
    """With the same environment twice, the results are the same as well."""
    pythons = {"modern": sys.executable, "tff": sys.executable}
    measured = stacks.measure_stacks(SMALL, "local", pythons, 2, seed=5)
    assert measured["first_weight_diff"] == measured["max_weight_diff"] == 0.0
    for name in pythons:
        assert measured[name]["versions"]["numpy"] == np.__version__
        assert measured[name]["median_s"] > 0 and len(measured[name]["rounds_s"]) == 2
    ratios = np.divide(measured["modern"]["rounds_s"], measured["tff"]["rounds_s"])
    assert measured["ratio"] == pytest.approx(np.median(ratios)) and measured["cpu_ratio"] > 0
    entry = {"workload": "tiny", "engine": "local", **measured, "ratio": 1.25, "cpu_ratio": 0.75}
    titles, _, row = report.markdown({"workloads": {}, "stacks": [entry]}).splitlines()[2:]
    shown = {title.strip(): cell.strip() for title, cell in zip(titles.split("|"), row.split("|"))}
    assert shown["workload"] == "tiny" and shown["engine"] == "local"
    assert shown["modern / tff"] == "1.25" and shown["CPU modern / tff"] == "0.75"
    assert float(shown["tff s"]) == pytest.approx(measured["tff"]["median_s"], abs=1e-3)


@pytest.mark.slow
def test_the_stacks_end_with_the_same_weights():
    root = pathlib.Path(__file__).resolve().parents[2]
    pythons = {"modern": root / ".venv/bin/python", "tff": root / ".venv-tff/bin/python"}
    if missing := [stack for stack, python in pythons.items() if not python.exists()]:
        pytest.skip(f"no environment: run scripts/setup --stack={missing[0]}")
    measured = stacks.measure_stacks(SMALL, "local", pythons, 2, seed=5)
    assert measured["modern"]["versions"]["keras"] > "3" > measured["tff"]["versions"]["keras"]
    assert measured["first_weight_diff"] < 1e-6 and measured["max_weight_diff"] < 1e-5


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--stacks=modern,keras3"], "--stacks=keras3: expected some of modern, tff"),
        (["--stacks=modern,tff", "--engines=local,tff"], "--engines=tff: expected local or keras"),
    ],
)
def test_wrong_comparisons_of_stacks_are_refused(arguments, expected):
    result = bench(*arguments)
    assert result.returncode == 2 and expected in result.stderr


@pytest.mark.slow
def test_methods_are_measured_in_turn():
    """All algorithms and aggregators except the mean have a row; FedAvg, the baseline, has two."""
    model = SMALL.compiled_model()
    algorithms, aggregators = methods.algorithm_cases(model), methods.aggregator_cases(3)
    assert {*algorithms, "fed_avg"} == set(_modules.names("fedlab.algorithms"))
    assert {*aggregators, "mean"} == set(_modules.names("fedlab.aggregators"))
    chosen = {
        "scaffold": algorithms["scaffold"],
        "differentially_private": aggregators["differentially_private"],
    }
    measured = methods.measure_methods(SMALL.setting(seed=5), chosen, 2)
    assert list(measured) == ["fed_avg", "scaffold", "differentially_private", "fed_avg again"]
    for method in measured.values():
        ratios = np.divide(method["rounds_s"], measured["fed_avg"]["rounds_s"])
        assert (
            method["over_fed_avg"] == pytest.approx(np.median(ratios))
            and len(method["rounds_s"]) == 2
        )
    assert measured["fed_avg"]["over_fed_avg"] == measured["fed_avg"]["cpu_over_fed_avg"] == 1.0
    assert all(
        method["cpu_s"] > 0 and method["cpu_over_fed_avg"] > 0 for method in measured.values()
    )
    lines = report.markdown({"workloads": {}, "methods": {"tiny": measured}}).splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == list(
        measured
    )


@pytest.mark.slow
def test_states_are_counted_and_their_file_grows():
    rows = states.measure_states(num_clients=60, clients_per_round=20, passes=2, seed=0)
    assert [row["clients"] for row in rows] == [20, 40, 60, 60, 60, 60]
    assert rows[2]["file_mb"] > 60 * 976 * 4 / 1e6 and min(row["peak_mb"] for row in rows) > 50
    text = report.markdown({"workloads": {}, "states": rows})
    assert "| round | clients |" in text and "file MB" in text


@pytest.mark.slow
def test_command_writes_json_table_and_picture(tmp_path):
    pytest.importorskip("tensorflow_federated")
    path = tmp_path / "bench.json"
    names = [name for name in measure.ENGINES if name != "flower"]  # another environment has it
    engines = f"--engines={','.join(names)}"
    result = bench(
        "--quick", "--workloads=W3b", engines, f"--json={path}", f"--out={tmp_path / 'out'}"
    )
    assert result.returncode == 0, result.stderr
    written = json.loads(path.read_text())
    assert {"machine", "commit", "command", "workloads"} <= set(written) and list(
        written["workloads"]
    ) == ["W3b"]
    entry = written["workloads"]["W3b"]
    for engine in names:
        assert (
            entry[engine]["median_s"] > 0
            and entry[engine]["first_s"] > 0
            and entry[engine]["peak_mb"] > 100
        )
    assert entry["ratio_tff"] == entry["tff"]["median_s"] / entry["local"]["median_s"]
    assert entry["ratio_keras"] == entry["keras"]["median_s"] / entry["local"]["median_s"]
    assert entry["ratio_limit"] == entry["local"]["median_s"] / entry["limit_s"]
    assert entry["first_weight_diff"] < 1e-5
    assert "W3b 30" in result.stdout and "tff / local" in result.stdout
    assert (tmp_path / "out" / "seconds.png").read_bytes().startswith(b"\x89PNG")
    assert "W3b" in (tmp_path / "out" / "table.csv").read_text()
