"""Text from a next-character model."""

import numpy as np
import tensorflow as tf

from fedlab import _checks
from fedlab.learner import graph, stepwise
from fedlab.tasks.generation import text as text_lib


def generate(
    model: tf.keras.Model,
    prompt: str,
    num_chars: int = 300,
    temperature: float = 1.0,
    seed: int = 0,
    vocabulary: str | None = None,
) -> str:
    """Continues a text, character by character.

    ```
    logits = model(prompt)[-1]
    repeat num_chars times:
      character ~ softmax(logits / temperature)     # temperature 0: the most likely one
      logits = model(character)                     # with the recurrent state
    ```

    This is a pure function of its arguments. A copy of the model reads the text, so the
    model and its recurrent state do not change.

    Args:
      model: a Sequential or Functional model with GRU, LSTM or other recurrent layers,
        stateful or not, of any fixed batch size or none: character ids, [batch, time]
        or [batch, time, 1], -> logits or probabilities, [batch, time, 86] or [batch,
        86]; or as many as another vocabulary has. Compiled or not.
      prompt: at least one character, all from the vocabulary.
      num_chars: number of characters to add, 0 or more.
      temperature: 0 or more. Below 1, likely characters become more likely. Above 1,
        probabilities become more equal.
      seed: seed of the draws, 0 or more.
      vocabulary: the model's characters in the order of their ids; by default
        `fedlab.tasks.generation.text.CHAR_VOCABULARY`.

    Returns:
      The prompt and its continuation.

    Raises:
      ValueError: an argument is out of range, or the model has other inputs, outputs or
        layers.

    Example:
      >>> from fedlab.models import char_rnn
      >>> len(generate(char_rnn(units=8, embedding_dim=4), "To be", num_chars=10))
      15
    """
    characters = text_lib.CHAR_VOCABULARY if vocabulary is None else vocabulary
    _check(prompt, num_chars, temperature, seed, characters)
    copy = _single_stateful_copy(model, len(characters))
    to_logits = tf.math.log if _gives_probabilities(copy) else tf.identity
    dtype = tf.as_dtype(copy.inputs[0].dtype)

    @tf.function(input_signature=[tf.TensorSpec([1, None], dtype)])
    def read(ids):
        outputs = copy(ids[..., None] if len(copy.inputs[0].shape) == 3 else ids, training=False)
        return to_logits(outputs[0, -1] if len(outputs.shape) == 3 else outputs[0])

    rng = np.random.default_rng(seed)
    ids = list(text_lib.encode(prompt, characters))
    unread = ids
    for _ in range(num_chars):
        logits = read(np.asarray([unread], dtype.as_numpy_dtype)).numpy().astype(np.float64)
        if np.isnan(logits).any():
            raise ValueError(
                f"model {model.name!r}: expected finite outputs, got nan; its training diverged, "
                "load another model"
            )
        unread = [_draw(logits, temperature, rng)]
        ids += unread
    return text_lib.decode(np.asarray(ids), characters)


def _draw(logits, temperature, rng):
    """A character id ~ softmax(logits / temperature); one number of `rng` each."""
    if temperature == 0:
        return int(np.argmax(logits))
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, probability 0
        weights = np.exp((logits - logits.max()) / temperature)
    total = np.cumsum(weights)
    return int(
        np.searchsorted(total, rng.random() * total[-1], side="right").clip(max=len(logits) - 1)
    )


def _check(prompt, num_chars, temperature, seed, characters):
    if not isinstance(prompt, str) or not prompt:
        raise ValueError(f"prompt={prompt!r}: expected a text of at least one character")
    if not isinstance(characters, str) or len(set(characters)) < max(1, len(characters)):
        raise _checks.value_error("vocabulary", characters, "different characters")
    if outside := sorted(set(prompt) - set(characters)):
        default = characters == text_lib.CHAR_VOCABULARY
        raise ValueError(
            f"prompt: expected characters of the vocabulary, got "
            f"{', '.join(map(repr, outside[:10]))}; rewrite it"
            f"{', or pass fedlab.generation.text.normalize(prompt)' if default else ''}"
        )
    for name, value in (("num_chars", num_chars), ("seed", seed)):
        _checks.check_int(name, value, 0)
    _checks.check_number("temperature", temperature, 0)


def _single_stateful_copy(model, characters):
    """Returns a stateful copy that reads one text of any length, from state zero."""
    if not isinstance(model, tf.keras.Model):
        raise ValueError(
            "model: expected a Keras model, as fedlab.models.load returns, got "
            f"{_checks.kind(model)}"
        )
    if not graph.is_functional(model):
        raise ValueError(
            f"model {model.name!r}: expected a built Sequential or Functional model; a subclassed "
            "model cannot be copied"
        )
    shapes = [tuple(tensor.shape) for tensor in (*model.inputs, *model.outputs)]
    if len(shapes) != 2 or len(shapes[0]) not in (2, 3) or shapes[0][2:] not in ((), (1,)):
        raise ValueError(
            f"model {model.name!r}: expected one input [batch, time] of character ids and one "
            f"output, got the shapes {shapes}"
        )
    if len(shapes[1]) not in (2, 3) or shapes[1][-1] != characters:
        raise ValueError(
            f"model {model.name!r}: expected outputs [batch, time, {characters}], one logit per "
            f"character, got {list(shapes[1])}"
        )
    layers = graph.layers_of(model)
    if not any(isinstance(layer, tf.keras.layers.RNN) for layer in layers):
        raise ValueError(
            f"model {model.name!r}: expected a recurrent layer, which remembers earlier characters"
        )
    if any(isinstance(layer, tf.keras.layers.Bidirectional) for layer in layers):
        raise ValueError(
            f"model {model.name!r}: expected no bidirectional layer, which reads later characters"
        )
    try:
        return stepwise(model)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"model {model.name!r}: expected a model that can be copied for a text of any length: "
            f"{str(error).splitlines()[0]}"
        ) from None


def _gives_probabilities(model):
    layer = graph.output_layer(model)
    return (
        isinstance(layer, tf.keras.layers.Softmax)
        or getattr(layer, "activation", None) is tf.keras.activations.softmax
    )
