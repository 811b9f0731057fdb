"""SQuAD from tensorflow-datasets, cached as SQuAD's JSON.

After the first call neither tensorflow-datasets nor the network is needed.
"""

import gzip
import json
import os

from fedlab import _cache, _extras, _files
from fedlab.datasets import _squad_json


def documents(version: str, cache_dir: str | os.PathLike | None = None) -> list[dict]:
    """Returns (train, dev) as JSON documents; the first call downloads 35 to 50 MB.

    Args:
      version: "1.1" or "2.0".
      cache_dir: see `fedlab._cache.folder`.

    Raises:
      ModuleNotFoundError: tensorflow-datasets is not installed.
      ConnectionError: the download failed.
    """
    folder = _cache.folder(cache_dir)
    files = [folder / f"squad_tfds_{version}_{split}.json.gz" for split in ("train", "dev")]
    if not all(file.is_file() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        for file, document in zip(files, _prepare(version, folder / "tensorflow_datasets")):
            _files.write(file, gzip.compress(json.dumps(document).encode(), compresslevel=6))
    return [_squad_json.read(file) for file in files]


def _prepare(version, data_dir):
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError:
        raise _extras.error(
            "source='tfds' needs",
            "tensorflow_datasets",
            "or use source='json' with path= a folder of SQuAD's files",
        ) from None
    try:
        builder = tfds.builder(f"squad/v{version}", data_dir=str(data_dir))
        builder.download_and_prepare()
    except Exception as error:  # a download fails in many ways; the remedy is the same
        raise ConnectionError(
            f"source='tfds': the download failed ({type(error).__name__}); use source='json' with "
            f"path= a folder with train-v{version}.json and dev-v{version}.json"
        ) from error
    return [
        _document(tfds.as_numpy(builder.as_dataset(split=split)), version)
        for split in ("train", "validation")
    ]


def _document(examples, version):
    """Groups examples by article, then by paragraph, as SQuAD's JSON does.

    Articles are in alphabetical order, because tfds shuffles them.
    """
    articles = {}
    for example in examples:
        paragraphs = articles.setdefault(example["title"].decode(), {})
        answers = zip(
            example["answers"]["text"].tolist(), example["answers"]["answer_start"].tolist()
        )
        entry = {"id": example["id"].decode(), "question": example["question"].decode()}
        entry["answers"] = [
            {"text": text.decode(), "answer_start": start} for text, start in answers
        ]
        if "is_impossible" in example:
            entry["is_impossible"] = bool(example["is_impossible"])
        paragraphs.setdefault(example["context"].decode(), []).append(entry)
    return {
        "version": version,
        "data": [
            {
                "title": title,
                "paragraphs": [
                    {"context": context, "qas": qas} for context, qas in sorted(paragraphs.items())
                ],
            }
            for title, paragraphs in sorted(articles.items())
        ],
    }
