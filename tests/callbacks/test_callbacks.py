"""Callbacks: what they see, when they stop a run, and resuming with the same bits."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.callbacks import BestModel, Callback, EarlyStopping, Round
from fedlab.runs.read import recorded
from tests.quadratics import linear_model, regressions
from tests.stacks import IS_KERAS_3, keras_2

CLIENTS, _, _ = regressions()
TEST = CLIENTS["c4"]


def model(rate=0.05):
    return linear_model(3, tf.keras.optimizers.SGD(rate))


def run(callbacks, rounds=4, **options):
    options = {
        "clients_per_round": 3,
        "evaluate_on": {"test": TEST},
        "num_workers": 1,
        "progress": False,
        "seed": 1,
        **options,
    }
    return fl.simulate(
        options.pop("model", None) or model(),
        CLIENTS,
        rounds=rounds,
        callbacks=callbacks,
        **options,
    )


def rising(seed=0):
    """An evaluation whose loss falls until round 2 and then rises."""
    return lambda model, round_num: {"loss": float(abs(round_num - 2)) + seed}


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_callback_sees_the_metrics_the_clients_and_the_model():
    seen, losses = [], []

    def look(round):
        seen.append(round)
        losses.append(round.model.evaluate(TEST["x"], TEST["y"], verbose=0))
        kernel = round.model.get_weights()[0]
        np.testing.assert_array_equal(kernel, round.weights[0][0])
        round.model.set_weights([kernel + 1.0])  # a copy: nothing else changes
        with pytest.raises(TypeError):
            round.metrics["test_loss"] = 0.0

    found, plain = (
        run([look], evaluate_on={"test": TEST, "each": fl.per_client(CLIENTS)}),
        run(None),
    )
    assert [round.round_num for round in seen] == [0, 1, 2, 3, 4]
    assert [row | dict(round.metrics) for row, round in zip(found.history, seen)] == found.history
    assert sum((round.clients for round in seen), []) == found.clients
    assert sum((round.evaluations for round in seen), []) == found.evaluations != []
    np.testing.assert_allclose(losses, [row["test_loss"] for row in found.history], rtol=1e-6)
    assert found.model.get_weights()[0].tobytes() == plain.model.get_weights()[0].tobytes()
    assert found.best is None and found.stopped is None and plain.stopped is None


@pytest.mark.parametrize("mode", ["min", "max"])
def test_early_stopping_stops_where_keras_does(mode):
    rng, stops = np.random.default_rng(0), 0
    keras_model = model()
    for _ in range(200):
        curve = rng.choice(
            [0.0, 0.25, 0.5, 0.75, 1.0, np.nan, np.inf, -np.inf],
            8,
            p=[0.18] * 5 + [0.04, 0.03, 0.03],
        )
        settings = dict(
            patience=int(rng.integers(4)), min_delta=float(rng.choice([0.0, 0.25])), mode=mode
        )
        settings |= dict(baseline=rng.choice([None, 0.5]))
        start = int(rng.integers(3))
        if IS_KERAS_3 and not np.isfinite(curve[start]):
            curve[start] = 0.5  # Keras 3 takes the first value as the best, even NaN
        theirs = tf.keras.callbacks.EarlyStopping("loss", start_from_epoch=start, **settings)
        ours = EarlyStopping("loss", start_from_round=start, **settings)
        theirs.set_model(keras_model)
        keras_model.stop_training = False
        theirs.on_train_begin()
        ours.on_run_begin([])
        for i, value in enumerate(curve):
            round = Round(i, {"loss": value}, ["loss"], [], [], None, None)
            theirs.on_epoch_end(i, {"loss": value})
            ours.on_round_end(round)
            assert keras_model.stop_training == (round.stop_reason is not None), (
                curve,
                settings,
                i,
            )
            if keras_model.stop_training:
                stops += 1
                break
    assert 50 < stops < 200


@pytest.mark.parametrize("first", [np.nan, np.inf])
def test_the_first_value_is_the_best_only_if_it_is_better_than_none(first):
    """As in Keras 2. Keras 3 would compare the values that follow with NaN, and stop."""
    stopper = EarlyStopping("loss", mode="min", patience=2)
    stopper.on_run_begin([])
    for i, (value, best) in enumerate([(first, None), (2.0, 2.0), (1.0, 1.0), (1.5, 1.0)]):
        round = Round(i, {"loss": value}, ["loss"], [], [], None, None)
        stopper.on_round_end(round)
        assert stopper.best == best and round.stop_reason is None


def test_early_stopping_and_the_best_model():
    sizes = []

    class Sizes(Callback):
        def on_run_begin(self, history):
            sizes.append(len(history))

        def on_run_end(self, run):
            sizes.append(len(run.history))

    keep = BestModel("test_loss")
    found = run(
        [EarlyStopping("test_loss", patience=2), keep, Sizes()], rounds=9, evaluate_on=rising()
    )
    short = run(None, rounds=2, evaluate_on=rising())
    assert len(found.history) == 5 and keep.best_round == 2 and keep.best == 0.0
    assert found.stopped == "EarlyStopping: test_loss is 2 in round 4; its best is 0 in round 2"
    assert found.best.get_weights()[0].tobytes() == short.model.get_weights()[0].tobytes()
    assert found.best.evaluate(TEST["x"], TEST["y"], verbose=0) == short.model.evaluate(
        TEST["x"], TEST["y"], verbose=0
    )
    assert found.model.get_weights()[0].tobytes() != short.model.get_weights()[0].tobytes()
    assert sizes == [0, 5]
    again = run(
        [EarlyStopping("test_loss", patience=2), keep], rounds=9, evaluate_on=rising(1)
    )  # an object may serve several runs
    assert len(again.history) == 5 and keep.best == 1.0


@pytest.mark.slow
def test_the_best_model_keeps_statistics_too_and_may_be_the_initial_one():
    layers = tf.keras.layers
    normalized = tf.keras.Sequential(
        [layers.Input([3]), layers.BatchNormalization(momentum=0.5), layers.Dense(1)]
    )
    normalized.compile(tf.keras.optimizers.SGD(0.05), "mse")
    options = dict(model=normalized, non_trainable="average")
    best, short = (
        run([BestModel("test_loss")], evaluate_on=rising(), **options).best,
        run(None, rounds=2, **options).model,
    )
    assert [w.tobytes() for w in best.get_weights()] == [w.tobytes() for w in short.get_weights()]
    diverging = run([BestModel("test_loss")], rounds=2, model=model(rate=3.0))
    assert diverging.best.get_weights()[0].tobytes() == model().get_weights()[0].tobytes()


def test_the_round_that_a_run_stops_after_is_evaluated():
    seen = []

    def stop(round):
        seen.append("test_loss" in round.metrics)
        if round.round_num == 3:
            round.stop("enough")

    found = run([stop], rounds=9, evaluate_every=2)
    assert found.stopped == "enough" and seen == [True, False, True, False]
    expected = found.model.evaluate(TEST["x"], TEST["y"], verbose=0)
    assert found.history[3]["test_loss"] == pytest.approx(expected, rel=1e-6)


class Interrupt(Callback):
    """Raises once, in the round it is told to, and sums up a metric."""

    at = None

    def on_run_begin(self, history):
        self.sum, self.losses, self.about = 0.0, [], "new"

    def on_round_end(self, round):
        if round.round_num == self.at:
            raise RuntimeError("interrupted")
        self.sum += round.metrics["test_loss"]
        self.losses.append(np.float32(round.metrics["test_loss"]))

    def state(self):
        return {
            "sum": self.sum,
            "losses": self.losses,
            "matrix": np.array([[self.sum, 1.0]]),
            "about": "restored",
        }

    def restore(self, state):
        self.sum, self.losses, self.about = state["sum"], list(state["losses"]), state["about"]
        assert state["matrix"].tolist() == [[self.sum, 1.0]] and isinstance(self.sum, float)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", ["local", pytest.param("tff", marks=[pytest.mark.slow, keras_2])]
)
def test_an_interrupted_run_resumes_with_the_same_bits(tmp_path, engine):
    def start(folder, at=None, rounds=9):
        callbacks = [Interrupt(), EarlyStopping("test_loss", patience=2), BestModel("test_loss")]
        callbacks[0].at = at
        options = dict(evaluate_on=rising(), run_dir=folder, rounds=rounds, engine=engine)
        return run(callbacks, **options), callbacks

    whole, (sums, stopper, keep) = start(tmp_path / "whole")
    assert len(whole.history) == 5 and whole.stopped and keep.best_round == 2
    for at in (0, 3):
        folder = tmp_path / f"run_{at}"
        with pytest.raises(RuntimeError, match="interrupted"):
            start(folder, at)
        assert len(list((folder / "checkpoints").glob("*"))) == min(
            at, 2
        )  # the round that failed is not written
        again, (sums_again, stopper_again, keep_again) = start(folder)
        assert (
            without_seconds(again.history) == without_seconds(whole.history)
            and again.clients == whole.clients
        )
        for first, second in ((whole.model, again.model), (whole.best, again.best)):
            assert first.get_weights()[0].tobytes() == second.get_weights()[0].tobytes()
        assert (again.stopped, sums_again.sum, sums_again.losses) == (
            whole.stopped,
            sums.sum,
            sums.losses,
        )
        assert sums_again.about == ("restored" if at else "new")
        assert (keep_again.best, keep_again.best_round, stopper_again.wait) == (
            keep.best,
            keep.best_round,
            stopper.wait,
        )
        for name in ("round_000003.npz", "round_000004.npz"):
            assert (folder / "checkpoints" / name).read_bytes() == (
                tmp_path / "whole" / "checkpoints" / name
            ).read_bytes()
    # A stopped run stays stopped, also with more rounds, and its folder says so.
    for rounds in (9, 20):
        stopped, _ = start(folder, rounds=rounds)
        assert len(stopped.history) == 5 and stopped.stopped == whole.stopped
    record = recorded.read_run(folder)
    assert record.finished and record.stopped == whole.stopped
    saved = tf.keras.models.load_model(folder / "best.keras")
    assert saved.get_weights()[0].tobytes() == whole.best.get_weights()[0].tobytes()
    with pytest.raises(ValueError, match="callbacks"):
        run(
            [EarlyStopping("test_loss", patience=3)],
            evaluate_on=rising(),
            run_dir=folder,
            rounds=9,
            engine=engine,
        )


def test_a_metric_that_is_not_a_number_is_none_to_callbacks_and_in_the_run():
    def nothing(y, predicted):
        return tf.fill(tf.shape(y), tf.constant(np.nan, y.dtype))

    compiled, seen = model(), []
    compiled.compile(compiled.optimizer, compiled.loss, metrics=[nothing])
    found = run([seen.append], rounds=1, evaluate_on=None, model=compiled)
    assert [client["metrics"] for client in seen[-1].clients] == [{"nothing": None}] * 3
    assert seen[-1].clients == found.clients


def test_a_wrong_monitor_is_named_before_the_first_round(tmp_path):
    for callback in (EarlyStopping("val_loss"), BestModel("train_accuracy")):
        with pytest.raises(
            ValueError, match="monitor='.*': expected a metric of this run: test_loss, train_loss$"
        ):
            run([callback], run_dir=tmp_path / "run")
        assert not list((tmp_path / "run" / "checkpoints").glob("*"))
        for file in sorted((tmp_path / "run").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    assert (
        len(run([EarlyStopping("train_loss", min_delta=1e9)], evaluate_on=None).history) == 3
    )  # round 0 has no training loss


class Text(Callback):
    def state(self):
        return {"nothing": None}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EarlyStopping("test_loss"), "callbacks=.*expected a list"),
        (lambda: [EarlyStopping], "callbacks[0] is the class EarlyStopping: expected an instance"),
        (
            lambda: [tf.keras.callbacks.History()],
            "callbacks[0] is History: expected a fedlab.callbacks.Callback",
        ),
        (
            lambda: [BestModel("test_loss"), BestModel("train_loss")],
            "several BestModel: expected at most one",
        ),
        (
            lambda: [EarlyStopping("test_loss", patience=-1)],
            "patience=-1: expected an integer of at least 0",
        ),
        (
            lambda: [EarlyStopping("test_loss", min_delta=-1.0)],
            "min_delta=-1.0: expected a number of at least 0",
        ),
        (
            lambda: [EarlyStopping("test_loss", baseline="low")],
            "baseline='low': expected a finite number, or None",
        ),
        (
            lambda: [BestModel("test_loss", mode="lowest")],
            "mode='lowest': expected one of 'auto', 'min', 'max'",
        ),
        (lambda: [BestModel(3)], "monitor=3: expected the name of a metric"),
        (lambda: [lambda round: round.stop(True)], "stop(reason=True): expected a text"),
        (
            lambda: [Text()],
            "state() of Text returned nothing=array(None, dtype=object): expected a number",
        ),
    ],
)
def test_bad_arguments_raise_one_line_errors(make, message):
    with pytest.raises(
        (TypeError, ValueError), match=re.escape(message).replace(r"\.\*", ".*")
    ) as info:
        run(make())
    assert "\n" not in str(info.value)


def test_the_folder_of_a_stopped_run_can_be_shown(tmp_path, capsys):
    from fedlab import cli

    run([lambda round: round.stop("as asked")], rounds=3, run_dir=tmp_path / "run")
    assert cli.main(["runs", "show", str(tmp_path / "run")]) in (0, None)
    assert "0/3, stopped: as asked" in capsys.readouterr().out
    assert pathlib.Path(tmp_path / "run" / "model.keras").exists()
