"""Looks at the data of clients, and turns it into the inputs of models."""

from fedlab._modules import lazily

# A module must not have the name of its function: importing it would hide the function.
__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "describe": "fedlab.data.description",
        "preprocess": "fedlab.data.preprocessing",
    },
)
