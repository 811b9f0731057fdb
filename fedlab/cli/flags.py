"""How experiment scripts start: absl flags, with TensorFlow imported neither for --help nor too late."""

from absl import app


def run_with_flags(main):
    """`absl.app.run(main)`, importing TensorFlow between the parsing of flags and the call of `main`.

    Before parsing, `--help` and a mistyped flag would wait seconds for it. After absl's initialization, TensorFlow registers call-backs
    that then run at once, create its context while it is still half imported, and leave Keras building graph tensors.
    """

    def parse(argv):
        args = app.parse_flags_with_usage(argv)
        if len(args) > 1:
            raise SystemExit(_usage_error(f"unknown arguments {args[1:]}: every setting is a --flag; --help lists them."))
        import tensorflow  # noqa: F401

        return args

    app.run(lambda argv: main(), flags_parser=parse)


def _usage_error(message):
    import sys

    print(message, file=sys.stderr)
    return 2
