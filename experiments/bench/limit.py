"""How fast this machine multiplies matrices, and how long a workload's products take at that speed.

Two forms are tried, each in a process of its own, and the better one counts: one product at a time on all cores, and one on each core
at the same time, with a single thread each. Both are TensorFlow's own float32 products, many in one compiled graph, so that the cost of a
call does not count.
"""

import concurrent.futures
import math
import multiprocessing
import time

FORMS = ("one product on all cores", "one product a core")
SQUARES = (512, 1024, 2048, 4096)
_GRAPH_FLOPS, _GRAPH_PRODUCTS, _GRAPH_BYTES = 5e8, 64, 1e8  # at most so much in one graph


def measure_rates(products, num_cores, seconds_each, squares=SQUARES):
    """Measures FLOPs a second of square products and of each of `products`.

    Args:
      products: `Product`s; their counts do not matter.
      num_cores: cores to use.
      seconds_each: how long each is repeated; the fastest repetition counts.
      squares: sizes of the square products.

    Returns:
      (best, rates): the highest rate of a matmul as {"flops_per_s", "form", "shape"}, and (op, shape) -> {"flops_per_s", "form"} of all.
    """
    from experiments.bench.workloads import Product

    squares = [Product("matmul", (1, n, n, n)) for n in squares]
    wanted = list(dict.fromkeys(product._replace(count=1) for product in (*squares, *products)))
    rates = {}
    for form in FORMS:
        # TensorFlow's number of threads is fixed once it has started.
        with concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn")
        ) as pool:
            measured = pool.submit(_rates, form, wanted, num_cores, seconds_each).result()
        for product, rate in zip(wanted, measured):
            key = product.op, product.shape
            if rate > rates.get(key, {"flops_per_s": 0})["flops_per_s"]:
                rates[key] = {"flops_per_s": rate, "form": form}
    best_key = max(
        (key for key in rates if key[0] == "matmul"), key=lambda key: rates[key]["flops_per_s"]
    )
    best = {**rates[best_key], "shape": best_key[1]}
    return best, rates


def limits(workload, best, rates):
    """Seconds a round would take if it were only its products.

    Returns:
      limit_s: at the best rate of all; limit_shapes_s: each product at the rate measured at its own shape.
    """
    rounds = workload.num_clients * workload.num_batches
    at_shapes = sum(
        product.flops / rates[product.op, product.shape]["flops_per_s"]
        for product in workload.products
    )
    return {"limit_s": workload.flops / best["flops_per_s"], "limit_shapes_s": rounds * at_shapes}


def _rates(form, products, num_cores, seconds_each):
    import tensorflow as tf

    per_core = form == FORMS[1]
    tf.config.threading.set_intra_op_parallelism_threads(1 if per_core else num_cores)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    num_threads = num_cores if per_core else 1
    with concurrent.futures.ThreadPoolExecutor(num_threads) as threads:
        return [_rate(tf, product, threads, num_threads, seconds_each) for product in products]


def _rate(tf, product, threads, num_threads, seconds_each):
    left_shape, right_shape, multiply = _factors(tf, product)
    size = 4 * (math.prod(left_shape) + math.prod(right_shape))
    repeats = max(
        1, min(_GRAPH_PRODUCTS, int(_GRAPH_FLOPS // product.flops), int(_GRAPH_BYTES // size))
    )
    # Different left factors: equal products would be computed once. The right one stays, as weights do from step to step.
    lefts, right = (
        tf.unstack(tf.random.normal([repeats, *left_shape])),
        tf.random.normal(right_shape),
    )
    graph = tf.function(
        lambda lefts, right: [multiply(left, right) for left in lefts]
    ).get_concrete_function(lefts, right)

    def work(_):
        graph(*lefts, right)

    list(threads.map(work, range(num_threads)))
    fastest, deadline = float("inf"), time.perf_counter() + seconds_each
    while fastest == float("inf") or time.perf_counter() < deadline:
        started = time.perf_counter()
        list(threads.map(work, range(num_threads)))
        fastest = min(fastest, time.perf_counter() - started)
    return product.flops * repeats * num_threads / fastest


def _factors(tf, product):
    """The shapes of the two factors, and the function that multiplies them."""
    if product.op == "matmul":
        batch, m, k, n = product.shape
        lead = [batch] if batch > 1 else []
        return [*lead, m, k], [*lead, k, n], tf.matmul
    batch, height, width, channels_in, channels_out, size = product.shape
    image = [batch, height, width, channels_in]
    kernel = [size, size, channels_in, channels_out]
    output = [batch, height - size + 1, width - size + 1, channels_out]
    options = dict(strides=[1, 1, 1, 1], padding="VALID")
    return {
        "conv": (image, kernel, lambda x, k: tf.raw_ops.Conv2D(input=x, filter=k, **options)),
        "conv_input": (
            output,
            kernel,
            lambda dy, k: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=image, filter=k, out_backprop=dy, **options
            ),
        ),
        "conv_kernel": (
            output,
            image,
            lambda dy, x: tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel, out_backprop=dy, **options
            ),
        ),
    }[product.op]
