"""Text generation, character by character."""

from fedlab._modules import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {"generate": "fedlab.tasks.generation.generator"},
    modules=["fedlab.tasks.generation.text"],
)
