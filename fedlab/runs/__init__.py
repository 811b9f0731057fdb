"""Run folders: `write` creates and resumes them, `read` reads them."""

from fedlab._modules import lazily

__getattr__, __dir__, __all__ = lazily(
    __name__,
    {
        "read_run": "fedlab.runs.read.recorded",
        "write_comparison": "fedlab.runs.read.results",
        "write_report": "fedlab.runs.read.report",
        "write_samples": "fedlab.runs.read.report",
    },
)
