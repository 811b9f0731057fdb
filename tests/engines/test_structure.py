"""Mistakes in an algorithm or aggregator: one line says what was received and what to do."""

import functools

import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import aggregators
from fedlab.algorithms import (
    Algorithm,
    ClientResult,
    Pass,
    fed_avg,
    fine_tuning,
    mime_lite,
    scaffold,
)
from tests.quadratics import linear_model, regressions

BASE = fed_avg()


def run(algorithm, aggregator=None, **options):
    clients, _, _ = regressions(num_clients=2)
    model = linear_model(3, tf.keras.optimizers.SGD(0.0625))
    options = {"clients_per_round": 2, "num_workers": 1, "progress": False, **options}
    return fl.simulate(model, clients, algorithm, rounds=1, aggregator=aggregator, **options)


def after(function, change):
    """`function` with `change` made to what it returns."""

    @functools.wraps(function)
    def changed(*arguments):
        return change(function(*arguments))

    return changed


def final(**fields):
    """FedAvg whose clients send other fields in their result."""
    return BASE._replace(
        client_final=after(BASE.client_final, lambda result: result._replace(**fields))
    )


DELTA = "expected \\[float64\\[3,1\\]\\]. One tensor for each weight"
MISTAKES = {
    "extras not declared": (
        final(extras=[tf.zeros([2])]),
        "what client_final of 'fed_avg' sends as extras is \\[float32\\[2\\]\\]: expected \\(\\). "
        "Declare them: extras",
    ),
    "extras of another dtype": (
        final(extras=[tf.zeros([2])])._replace(extras=lambda weights: [tf.zeros([2], tf.float64)]),
        "extras is \\[float32\\[2\\]\\]: expected \\[float64\\[2\\]\\]",
    ),
    "extras declared and not sent": (
        BASE._replace(extras=lambda weights: [tf.zeros([2])]),
        "extras is \\(\\): expected \\[float32\\[2\\]\\]",
    ),
    "a state not declared": (
        final(state=[tf.zeros([2])]),
        "the state that client_final of 'fed_avg' keeps is \\[float32\\[2\\]\\]: expected \\(\\). "
        "Declare it: client_state",
    ),
    "a state of another shape": (
        final(state=[tf.zeros([3])])._replace(client_state=lambda weights: [tf.zeros([2])]),
        "keeps is \\[float32\\[3\\]\\]: expected \\[float32\\[2\\]\\]",
    ),
    "a delta too few": (
        final(delta=[]),
        f"the delta that client_final of 'fed_avg' returns is \\[\\]: {DELTA}",
    ),
    "a delta of another shape": (
        final(delta=[tf.zeros([3], tf.float64)]),
        f"is \\[float64\\[3\\]\\]: {DELTA}",
    ),
    "a delta of another dtype": (
        final(delta=[tf.zeros([3, 1])]),
        f"is \\[float32\\[3,1\\]\\]: {DELTA}",
    ),
    "a delta that is None": (final(delta=None), f"is None: {DELTA}"),
    "a weight that is no scalar": (
        final(weight=tf.ones([1])),
        "the weight that client_final of 'fed_avg' returns is float32\\[1\\]: expected "
        "float32\\[\\]. It is a scalar of 0 or more",
    ),
    "a weight below 0": (
        final(weight=tf.constant(-2.0)),
        "client_final of 'fed_avg' returns weight -2 for client 'c.': expected 0 or more",
    ),
    "no result": (
        BASE._replace(client_final=after(BASE.client_final, lambda result: tuple(result)[:2])),
        "what client_final of 'fed_avg' returns is \\(\\[float64\\[3,1\\]\\], float32\\[\\]\\): "
        "expected a fedlab.algorithms.ClientResult",
    ),
    "client_init that gives no tensor": (
        BASE._replace(client_init=lambda task, weights: {"seen": None}),
        "the state that client_init of 'fed_avg' returns is {seen: None}: expected a nest of "
        "tensors, \\(\\) for none",
    ),
    "client_step that forgets to return": (
        BASE._replace(client_step=lambda *arguments: None),
        "the state that client_step of 'fed_avg' returns is None: expected "
        "ClientState\\(weights=\\[float64\\[3,1\\]\\], optimizer=.*"
        "A step keeps the nesting, dtypes and shapes of what client_init of 'fed_avg' returns",
    ),
    "client_step that changes the nesting": (
        BASE._replace(client_step=lambda *a: tuple(BASE.client_step(*a))),
        "client_step .* is \\(\\[",
    ),
    "client_step that changes a shape": (
        BASE._replace(
            client_step=after(
                BASE.client_step, lambda state: state._replace(weights=[state.weights[0][0]])
            )
        ),
        "client_step of 'fed_avg' returns is ClientState\\(weights=\\[float64\\[1\\]\\]",
    ),
    "client_step that loses a shape": (
        BASE._replace(
            client_step=after(
                BASE.client_step,
                lambda state: state._replace(
                    weights=[tf.boolean_mask(w, w[:, 0] > 0) for w in state.weights]
                ),
            )
        ),
        "client_step of 'fed_avg' returns is ClientState\\(weights=\\[float64\\[\\?,1\\]\\]",
    ),
    "server_init that gives no tensor": (
        BASE._replace(server_init=lambda weights: {"count": object()}),
        "server_init of 'fed_avg' returns is {count: a object}: expected a nest of tensors",
    ),
    "server_update that gives weights alone": (
        BASE._replace(server_update=lambda weights, state, update: weights),
        "what server_update of 'fed_avg' returns is \\[float64\\[3,1\\]\\]: expected a pair "
        "\\(weights, state\\)",
    ),
    "server_update that gives no weights": (
        BASE._replace(server_update=lambda weights, state, update: (None, state)),
        f"the weights that server_update of 'fed_avg' returns is None: {DELTA}",
    ),
    "a server state that changes": (
        BASE._replace(server_update=lambda weights, state, update: (weights, [tf.zeros([])])),
        "the state that server_update of 'fed_avg' returns is \\[float32\\[\\]\\]: expected .*"
        "keeps the form that server_init gives",
    ),
    "a survey of another form": (
        mime_lite()._replace(
            prepare=lambda model, schedule: change_survey(mime_lite().prepare(model, schedule)),
        ),
        "what survey.final of 'mime_lite' returns is \\[float64\\[3,1\\]\\]: expected GradientSum",
    ),
    "a broadcast of no tensors": (
        scaffold()._replace(broadcast=lambda control: None),
        "what broadcast of 'scaffold' returns is None: expected a nest of tensors",
    ),
}


def change_survey(algorithm):
    return algorithm._replace(
        survey=algorithm.survey._replace(
            final=lambda *arguments: algorithm.survey.final(*arguments).gradients
        )
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_wrong_structures_raise_one_line_errors(name):
    algorithm, message = MISTAKES[name]
    with pytest.raises(ValueError, match=f"^[^\n]*{message}[^\n]*$"):
        run(algorithm)


def test_values_that_convert_to_tensors_are_accepted():
    """Numbers become tensors, and a tuple of deltas is as good as a list."""

    def server_update(weights, state, update):
        return tuple(w - d for w, d in zip(weights, update.delta)), {
            "rounds": state["rounds"] + 1.0
        }

    algorithm = Algorithm(
        name="own",
        settings={},
        server_init=lambda weights: {"rounds": 0.0},
        client_init=lambda task, weights: (weights, 0),
        client_step=lambda task, weights, state, batch: (state[0], state[1] + 1),
        client_final=lambda task, weights, state, counts: ClientResult(
            tuple(tf.ones_like(w) for w in weights), 1.0
        ),
        server_update=server_update,
    )
    assert run(algorithm).model.get_weights()[0].tolist() == [[-1.0]] * 3


def test_personalized_weights_of_wrong_structure_are_refused():
    base = fine_tuning()
    broken = base._replace(
        personalize=Pass(base.personalize.init, base.personalize.step, lambda *arguments: [])
    )
    clients, _, _ = regressions(num_clients=2)
    with pytest.raises(
        ValueError, match=f"^what personalize.final of 'fed_avg' returns is \\[\\]: {DELTA}[^\n]*$"
    ):
        run(broken, evaluate_on=(clients, clients))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(accumulate=lambda state, accumulator, delta, weight, seed: delta),
            "what accumulate of mean returns is \\[float64\\[3,1\\]\\]: expected WeightedSum",
        ),
        (
            dict(report=lambda state, accumulator, seed: ([], state, {})),
            f"the update that mean reports is \\[\\]: {DELTA}",
        ),
    ],
)
def test_aggregators_that_return_wrong_structures_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        run(BASE, aggregators.mean()._replace(**change))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (fed_avg,),
            "algorithm: expected an Algorithm, such as fedlab.algorithms.fed_avg\\(\\), got "
            "function fed_avg",
        ),
        (("fed_avg",), "algorithm: expected an Algorithm, .* got str 'fed_avg'"),
        ((BASE, aggregators.median), "aggregator: expected an Aggregator, .* got function median"),
        ((BASE, "median"), "aggregator: expected an Aggregator, .* got str 'median'"),
    ],
)
def test_wrong_types_of_algorithm_and_aggregator_are_refused(arguments, message):
    with pytest.raises(TypeError, match=f"^{message}[^\n]*$"):
        run(*arguments)
