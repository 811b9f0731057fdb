"""Topics: texts about the same things come together, the same every time."""

import numpy as np
import pytest

from fedlab.tasks.question_answering.topics import topics

WORDS = (
    "ship sail sea harbour captain wave",
    "star planet moon orbit comet sky",
    "bread oven flour butter cake sugar",
)


def texts(per_topic, seed=0):
    """(texts, their true topics): each text has five words of its topic."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(WORDS)), per_topic))
    return [" ".join(["the", *rng.choice(WORDS[topic].split(), 5)]) for topic in truth], truth


@pytest.mark.parametrize("per_topic", [10, 60])  # with 60 there are more texts than components
def test_texts_of_one_topic_come_together(per_topic):
    made, truth = texts(per_topic)
    found = topics(made, num_topics=3, seed=0)
    assert found.dtype == np.int64 and set(found) == {0, 1, 2}
    assert len(set(zip(found.tolist(), truth.tolist()))) == 3  # one to one
    np.testing.assert_array_equal(found, topics(made, num_topics=3, seed=0))


def test_more_words_than_components():
    rng = np.random.default_rng(0)
    groups = [[f"w{topic}x{i}" for i in range(100)] for topic in range(3)]
    truth = np.repeat(np.arange(3), 60)
    made = [" ".join(rng.choice(groups[topic], 30)) for topic in truth]
    assert len(set(zip(topics(made, num_topics=3).tolist(), truth.tolist()))) == 3


def test_what_is_refused():
    with pytest.raises(ValueError, match="num_topics=4: expected an integer between 1 and 3"):
        topics(["ship", "star", "cake"], num_topics=4)
    with pytest.raises(ValueError, match="num_topics=0"):
        topics(["ship"], num_topics=0)
    with pytest.raises(ValueError, match="seed=-1: expected"):
        topics(["ship"], num_topics=1, seed=-1)
    with pytest.raises(ValueError, match="2 texts: expected words"):
        topics(["the", "?!"], num_topics=1)
