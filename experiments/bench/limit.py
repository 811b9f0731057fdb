"""How fast this machine multiplies matrices, and how long a workload's products take.

Each product is measured in two forms, and the faster one counts: one product at a time
on all cores, and one product per core with a single thread each. Each form runs in its
own process, because TensorFlow's number of threads cannot change once it has started.

A small product takes a few microseconds, less than calling TensorFlow from Python. So
one call runs a graph of up to 256 products. They run one after another, and only one
value of each result is kept: the memory of a result is reused by the next one, and
nothing but the products takes noticeable time.
"""

import concurrent.futures
import math
import multiprocessing
import time

FORMS = ("one product on all cores", "one product per core")
SQUARES = (512, 1024, 2048, 4096)
_GRAPH_FLOPS, _GRAPH_PRODUCTS = 5e8, 256  # upper bounds for one graph
_LEFT_FACTORS = 4


def measure_rates(products, num_cores, seconds_each, squares=SQUARES):
    """Measures the FLOPs per second of square products and of each of `products`.

    Args:
      products: `Product`s; their counts do not matter.
      num_cores: number of cores to use.
      seconds_each: how long each product is repeated; the fastest repetition counts.
      squares: sizes of the square products.

    Returns:
      (best, rates). best is the highest rate of a matmul: {"flops_per_s", "form",
      "shape"}. rates is (op, shape) -> {"flops_per_s", "form"}.
    """
    from experiments.bench.workloads import Product

    squares = [Product("matmul", (1, n, n, n)) for n in squares]
    wanted = list(dict.fromkeys(product._replace(count=1) for product in (*squares, *products)))
    rates = {}
    for form in FORMS:
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
    """The shortest time of a round, if nothing but its products took time.

    Returns:
      limit_s: seconds at the best rate of all products.
      limit_shapes_s: seconds with each product at the rate of its own shape.
    """
    steps = workload.num_clients * workload.num_batches
    at_shapes = sum(
        product.flops / rates[product.op, product.shape]["flops_per_s"]
        for product in workload.products
    )
    return {"limit_s": workload.flops / best["flops_per_s"], "limit_shapes_s": steps * at_shapes}


def _rates(form, products, num_cores, seconds_each):
    import tensorflow as tf

    per_core = form == FORMS[1]
    tf.config.threading.set_intra_op_parallelism_threads(1 if per_core else num_cores)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    num_threads = num_cores if per_core else 1
    with concurrent.futures.ThreadPoolExecutor(num_threads) as threads:
        return [_rate(tf, product, threads, num_threads, seconds_each) for product in products]


def _rate(tf, product, threads, num_threads, seconds_each):
    """FLOPs per second of `product` when each of `num_threads` threads repeats it."""
    left_shape, right_shape, multiply = _factors(tf, product)
    repeats = int(min(_GRAPH_PRODUCTS, max(1, _GRAPH_FLOPS // product.flops)))
    # The right factor stays the same, as weights do within a step.
    lefts = tf.random.normal([min(repeats, _LEFT_FACTORS), *left_shape])
    right = tf.random.normal(right_shape)

    @tf.function
    def multiply_repeatedly(lefts, right):
        # Separate arguments of the graph would take longer to read.
        lefts, kept = tf.unstack(lefts), []
        for n in range(repeats):
            # The order also keeps TensorFlow from merging equal products.
            with tf.control_dependencies(kept[-1:]):
                result = multiply(lefts[n % len(lefts)], right)
            kept.append(tf.slice(result, [0] * result.shape.rank, [1] * result.shape.rank))
        return tf.stack(kept)

    graph = multiply_repeatedly.get_concrete_function(lefts, right)

    def work(_):
        graph(lefts, right)

    list(threads.map(work, range(num_threads)))
    fastest, deadline = math.inf, time.perf_counter() + seconds_each
    while fastest == math.inf or time.perf_counter() < deadline:
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
