"""Continues a text with a next-character model."""

from fedlab.cli import _arguments


def add_arguments(parser):
    _arguments.add_model(parser)
    parser.add_argument("--prompt", required=True, help="the text to go on from; written as it is")
    parser.add_argument(
        "--num_chars",
        type=_arguments.non_negative_int,
        default=300,
        metavar="N",
        help="characters to add (default: 300)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="0: the likeliest character; 1 (default): as the model has it",
    )
    parser.add_argument(
        "--seed",
        type=_arguments.non_negative_int,
        default=0,
        metavar="N",
        help="of the draws (default: 0)",
    )


def run(args):
    import fedlab as fl

    model = fl.models.load(args.model, trust_model=args.trust_model)
    print(
        fl.generate(
            model,
            args.prompt,
            num_chars=args.num_chars,
            temperature=args.temperature,
            seed=args.seed,
        )
    )
