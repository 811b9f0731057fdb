"""Topics of texts: k-means clusters of their words, for partitions by topic without labels."""

from collections.abc import Iterable

import numpy as np

from fedlab import _checks, _extras
from fedlab.clients import seeding

_MAX_WORDS = 10_000
_COMPONENTS = 100


def topics(texts: Iterable[str], num_topics: int = 30, seed: int = 0) -> np.ndarray:
    """Groups texts by their words.

    ```
    TF-IDF of the 10,000 most frequent words (without stop words, sublinear)
    -> its 100 largest components -> length 1 -> k-means
    ```

    This is latent semantic analysis (Deerwester et al. 1990) with k-means. It runs in one
    thread. With several threads, the order of sums would vary, and the topic of texts on a
    border with it.

    Args:
      texts: n texts, at least num_topics.
      num_topics: number of topics, 1 or more. FedNLP (Lin et al. 2022) divides SQuAD's
        questions into 30 clusters.
      seed: 0 or more.

    Returns:
      int64 [n], the topic of each text, from 0 to num_topics - 1.

    Raises:
      ValueError: there are fewer texts than topics, or the texts have no words.
      ModuleNotFoundError: scikit-learn is not installed.

    Example:
      >>> sea = ["ships sail the sea", "a sea of ships"]
      >>> sky = ["stars light the sky", "the sky has stars"]
      >>> found = topics(sea + sky, num_topics=2)
      >>> found[0] == found[1] != found[2] == found[3]
      True
    """
    texts = list(texts)
    _checks.check_int("num_topics", num_topics, 1, len(texts), "the number of texts")
    try:
        from sklearn.cluster import KMeans
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.preprocessing import normalize
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        raise _extras.error("topics need", "sklearn") from None
    state = int(seeding.generator(seed, "topics").integers(2**31))
    with threadpool_limits(1):
        vectorizer = TfidfVectorizer(
            stop_words="english", max_features=_MAX_WORDS, sublinear_tf=True, dtype=np.float32
        )
        try:
            words = vectorizer.fit_transform(texts)
        except ValueError:  # scikit-learn: "empty vocabulary"
            raise ValueError(
                f"{len(texts)} texts: expected words other than stop words, got none"
            ) from None
        if min(words.shape) > _COMPONENTS:
            words = TruncatedSVD(_COMPONENTS, random_state=state).fit_transform(words)
        return (
            KMeans(num_topics, n_init=1, random_state=state)
            .fit_predict(normalize(words))
            .astype(np.int64)
        )
