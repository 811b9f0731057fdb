"""What each partitioner guarantees, for any labels, sizes and seeds."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedlab.clients import partitioners

SEEDS = st.integers(0, 2**40)
LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=80)
CIFAR_100 = np.repeat(np.arange(100), 500)


def rows(partition):
    return np.concatenate([*partition.values()]).tolist()


def sizes(partition):
    return [len(each) for each in partition.values()]


def check_is_partition(partition, num_examples, everything=True):
    """Every row belongs to one client (or at most one), in increasing order."""
    found = rows(partition)
    assert len(set(found)) == len(found) and set(found) <= {*range(num_examples)}
    assert not everything or len(found) == num_examples
    for each in partition.values():
        assert each.dtype == np.int64 and (np.diff(each) > 0).all()


def check_is_pure(make):
    first, second = make(), make()
    assert list(first) == list(second)
    assert all((first[name] == second[name]).all() for name in first)


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, num_clients=st.integers(1, 40), alpha=st.floats(1e-3, 1e3), seed=SEEDS)
def test_balanced_dirichlet(labels, num_clients, alpha, seed):
    assume(num_clients <= len(labels))

    def make():
        return partitioners.dirichlet(labels, num_clients, alpha, seed, balanced=True)

    found = make()
    check_is_partition(found, len(labels))
    assert max(sizes(found)) - min(sizes(found)) <= 1
    check_is_pure(make)


def test_balanced_dirichlet_has_the_variance_of_the_distribution():
    # The first of two clients draws from q ~ Dirichlet(alpha * [1/2, 1/2]): the share of a
    # label has the mean 1/2 and the variance 1/4 / (alpha + 1), plus that of a multinomial,
    # E[q (1 - q)] / m = 1/4 (1 - 1 / (alpha + 1)) / m. With 10,000 examples of each label
    # and 100 per client, no label runs out.
    labels, alpha, m = np.repeat([0, 1], 10_000), 3.0, 100
    partition = partitioners.dirichlet(labels, 200, alpha, seed=0, balanced=True)
    shares = np.array([labels[each].mean() for each in partition.values()])[:60]
    expected = 0.25 / (alpha + 1) + 0.25 * (1 - 1 / (alpha + 1)) / m
    assert shares.mean() == pytest.approx(0.5, abs=0.1)
    assert shares.var() == pytest.approx(expected, rel=0.35)


def test_balanced_dirichlet_between_one_label_and_the_overall_mixture():
    labels = np.repeat(np.arange(10), 100)
    wide = partitioners.dirichlet(labels, 10, 1e7, seed=0, balanced=True)
    counts = np.array([np.bincount(labels[each], minlength=10) for each in wide.values()])
    assert counts.max() <= 25  # multinomial around 10
    narrow = partitioners.dirichlet(labels, 10, 1e-3, seed=0, balanced=True)
    assert len(set(labels[narrow["client_0"]])) == 1


@st.composite
def labels_of_clients(draw):
    """Labels, a number of clients and of labels per client that are possible together."""
    num_values = draw(st.integers(1, 6))
    num_labels = draw(st.integers(1, num_values))
    num_clients = draw(st.integers(-(-num_values // num_labels), 12))
    fewest = -(-num_clients * num_labels // num_values)  # the owners of a label, rounded up
    counts = draw(st.lists(st.integers(fewest, fewest + 9), min_size=num_values, max_size=10))
    counts = counts[:num_values]
    labels = draw(st.permutations(np.repeat(np.arange(num_values), counts).tolist()))
    return np.array(labels), num_clients, num_labels


@settings(max_examples=100, deadline=None)
@given(case=labels_of_clients(), seed=SEEDS)
def test_labels_per_client(case, seed):
    labels, num_clients, num_labels = case

    def make():
        return partitioners.labels_per_client(labels, num_clients, num_labels, seed)

    found = make()
    check_is_partition(found, len(labels))
    each = [labels[mine] for mine in found.values()]
    assert [len(set(mine.tolist())) for mine in each] == [num_labels] * num_clients
    owners = np.array([sum(label in mine for mine in each) for label in np.unique(labels)])
    assert owners.max() - owners.min() <= 1
    for label in np.unique(labels):
        shares = [n for mine in each if (n := int((mine == label).sum()))]
        assert max(shares) - min(shares) <= 1
    check_is_pure(make)


@settings(max_examples=100, deadline=None)
@given(
    num_examples=st.integers(1, 500),
    num_clients=st.integers(1, 50),
    skew=st.floats(0, 5),
    min_examples=st.integers(0, 5),
    seed=SEEDS,
)
@pytest.mark.parametrize("name", ["power_law", "log_normal"])
def test_sizes_in_proportion(name, num_examples, num_clients, skew, min_examples, seed):
    assume(num_clients * max(1, min_examples) <= num_examples)

    def make():
        function = getattr(partitioners, name)
        return function(num_examples, num_clients, skew, seed, min_examples=min_examples)

    found = make()
    check_is_partition(found, num_examples)
    assert len(found) == num_clients and min(sizes(found)) >= min_examples
    if name == "power_law":
        weights = np.arange(1, num_clients + 1.0) ** -skew
        formula = min_examples + weights / weights.sum() * (
            num_examples - min_examples * num_clients
        )
        assert (np.abs(np.array(sorted(sizes(found), reverse=True)) - formula) < 1).all()
    check_is_pure(make)


def test_log_normal_sizes_have_their_sigma():
    found = partitioners.log_normal(10_000_000, 400, sigma=1.0, seed=0, min_examples=0)
    assert np.log(sizes(found)).std() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("name, skew", [("power_law", 1.0), ("log_normal", 2.0)])
def test_sizes_are_skewed_and_examples_are_not(name, skew):
    labels = np.arange(20_000) % 4
    found = getattr(partitioners, name)(20_000, 10, skew, seed=0)
    assert max(sizes(found)) > 5 * min(sizes(found))
    largest = max(found.values(), key=len)
    assert np.bincount(labels[largest]) / len(largest) == pytest.approx([0.25] * 4, abs=0.02)


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(
        st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9)), min_size=1, max_size=50
    ),
    num_clients=st.integers(1, 50),
    as_dates=st.booleans(),
)
def test_by_time(times, num_clients, as_dates):
    assume(num_clients <= len(times))
    times = np.array(times)
    if as_dates:
        times = times.astype(np.int64).astype("datetime64[s]")
    found = partitioners.by_time(times, num_clients)
    check_is_partition(found, len(times))
    assert max(sizes(found)) - min(sizes(found)) <= 1
    parts = [times[each] for each in found.values()]
    assert all(before.max() <= after.min() for before, after in zip(parts, parts[1:]))


def test_by_time_takes_datetimes():
    import datetime

    days = np.array([datetime.datetime(2024, month, 1) for month in (3, 1, 2)], object)
    found = partitioners.by_time(days, 3)
    assert [each.tolist() for each in found.values()] == [[1], [2], [0]]


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.integers(0, 11), min_size=1, max_size=80),
    num_clients=st.integers(1, 20),
    share=st.floats(0.1, 1),
    everything=st.booleans(),
    alpha=st.floats(1e-3, 100),
    beta=st.floats(1e-3, 100),
    seed=SEEDS,
)
def test_pachinko(labels, num_clients, share, everything, alpha, beta, seed):
    assume(num_clients <= len(labels))
    size = None if everything else max(1, int(share * (len(labels) // num_clients)))

    def make():
        return partitioners.pachinko(
            labels,
            num_clients,
            [label // 3 for label in range(12)],
            seed,
            alpha=alpha,
            beta=beta,
            examples_per_client=size,
        )

    found = make()
    check_is_partition(found, len(labels), everything)
    if everything:
        assert max(sizes(found)) - min(sizes(found)) <= 1
    else:
        assert sizes(found) == [size] * num_clients
    check_is_pure(make)


def test_pachinko_of_cifar_100():
    """The setting of Reddi et al.: 500 clients of 100 examples that are all 50,000."""
    found = partitioners.pachinko(CIFAR_100, 500, np.arange(100) // 5, seed=0)
    check_is_partition(found, 50_000)
    assert sizes(found) == [100] * 500
    # A Dirichlet(0.1) over 20 labels has E[sum p^2] = (0.1 + 1) / (20 * 0.1 + 1) = 0.367 and
    # a Dirichlet(10) over 5 has (10 + 1) / (5 * 10 + 1) = 0.216; two examples of a client have
    # the same coarse label (fine label within it) with that probability. The first clients
    # draw from full stocks.
    coarse, fine = [], []
    for each in [*found.values()][:150]:
        counts = np.bincount(CIFAR_100[each], minlength=100).reshape(20, 5)
        per_coarse = counts.sum(axis=1)
        coarse.append((per_coarse * (per_coarse - 1)).sum() / (100 * 99))
        pairs = (per_coarse * (per_coarse - 1)).sum()
        fine.append((counts * (counts - 1)).sum() / pairs)
    assert np.mean(coarse) == pytest.approx(1.1 / 3, rel=0.15)
    assert np.mean(fine) == pytest.approx(11 / 51, rel=0.1)


def test_pachinko_takes_names():
    labels = ["rose", "tulip", "bus", "car"] * 5
    parents = {"rose": "flower", "tulip": "flower", "bus": "vehicle", "car": "vehicle"}
    found = partitioners.pachinko(labels, 2, parents, seed=0, alpha=1e-3)
    kinds = [{parents[labels[row]] for row in each} for each in found.values()]
    assert sorted(map(sorted, kinds)) == [["flower"], ["vehicle"]]


@settings(max_examples=100, deadline=None)
@given(
    groups=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    fraction=st.floats(0.05, 1),
    min_examples=st.integers(0, 3),
    iid=st.booleans(),
    client_fraction=st.floats(0.01, 1),
    seed=SEEDS,
)
def test_leaf(groups, fraction, min_examples, iid, client_fraction, seed):
    natural = partitioners.natural(groups)
    options = {"fraction": fraction, "iid": iid, "client_fraction": client_fraction}
    num_sampled = int(fraction * len(groups))
    assume(num_sampled)
    before = partitioners.leaf(groups, seed, **options)
    check_is_partition(before, len(groups), everything=False)
    assert len(rows(before)) == num_sampled
    if iid:
        num_clients = max(1, round(client_fraction * len(natural)))
        assert len(before) == min(num_clients, num_sampled)
        assert max(sizes(before)) - min(sizes(before)) <= 1
    else:
        cut = [name for name in before if len(before[name]) < len(natural[name])]
        assert len(cut) <= 1
        assert all((natural[name][: len(each)] == each).all() for name, each in before.items())
    assume(max(sizes(before)) >= min_examples)
    kept = partitioners.leaf(groups, seed, min_examples=min_examples, **options)
    expected = [name for name, each in before.items() if len(each) >= max(1, min_examples)]
    assert [*kept] == expected
    assert all((kept[name] == before[name]).all() for name in kept)


@settings(max_examples=50, deadline=None)
@given(num_clients=st.integers(1, 30), seed=SEEDS, more=st.integers(0, 100))
def test_leaf_synthetic(num_clients, seed, more):
    expected = partitioners.leaf_sizes(num_clients, seed)
    assert expected.min() >= 5 and expected.max() <= 1000
    num_examples = int(expected.sum()) + more
    found = partitioners.leaf_synthetic(num_examples, num_clients, seed)
    check_is_partition(found, num_examples, everything=not more)
    assert sizes(found) == expected.tolist()


def test_leaf_sizes_have_the_quantiles_of_the_distribution():
    # exp(3 + 2 z) for the normal quantiles z = -0.6745, 0 and 0.6745, and 5 more, rounded down.
    found = np.quantile(partitioners.leaf_sizes(20_000, seed=1), [0.25, 0.5, 0.75])
    assert found == pytest.approx([10, 25, 82], abs=4)
    # P(size is 1000) = P(z > (log(995) - 3) / 2 = 1.951) = 0.0255.
    share = (partitioners.leaf_sizes(20_000, seed=1) == 1000).mean()
    assert share == pytest.approx(0.0255, abs=0.004)


@settings(max_examples=15, deadline=None)
@given(num_clients=st.integers(1, 5), seed=st.integers(0, 100))
def test_clusters(num_clients, seed):
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(7)
    kinds = rng.integers(0, 3, 60)
    embeddings = (rng.normal(size=[60, 2, 2]) + 100 * kinds[:, None, None]).astype(np.float32)
    labels = partitioners.cluster_labels(embeddings, 3, seed)
    # The clusters are far apart, so each is one kind.
    assert len({*zip(kinds.tolist(), labels.tolist())}) == 3
    found = partitioners.clusters(
        embeddings, num_clients, 0.5, seed, num_clusters=3, min_examples=0
    )
    check_is_partition(found, 60)
    expected = partitioners.dirichlet(labels, num_clients, 0.5, seed, min_examples=0)
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_text_is_parsed_to_the_partitioner_it_shows():
    for waiting in (
        partitioners.dirichlet(num_clients=4, alpha=0.5, seed=3, balanced=True),
        partitioners.pachinko("fine", num_clients=4, parents=[0, 0, 1], seed=0),
        partitioners.natural("writer"),
        partitioners.leaf_synthetic(num_clients=3, seed=0),
    ):
        assert partitioners.parse(repr(waiting)) == waiting
    assert partitioners.parse("uniform(num_clients=2)", seed=5).settings["seed"] == 5


@pytest.mark.parametrize("name", ["dirichlet", "labels_per_client", "pachinko", "by_time"])
def test_a_million_rows_take_seconds(name):
    import time

    labels = np.random.default_rng(0).integers(0, 100, 1_000_000)
    options = {
        "dirichlet": {"num_clients": 1000, "alpha": 0.5, "seed": 0, "balanced": True},
        "labels_per_client": {"num_clients": 1000, "num_labels": 5, "seed": 0},
        "pachinko": {"num_clients": 1000, "parents": np.arange(100) // 5, "seed": 0},
        "by_time": {"num_clients": 1000},
    }
    start = time.process_time()
    found = getattr(partitioners, name)(labels, **options[name])
    assert time.process_time() - start < 4
    assert sum(sizes(found)) == 1_000_000
