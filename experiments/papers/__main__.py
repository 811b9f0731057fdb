"""Reproduces the experiments of papers.

    python -m experiments.papers --list
    python -m experiments.papers reddi2021 --scale=small
    python -m experiments.papers reddi2021 --scale=paper --cases=fed_avg,fed_adam --seeds=0

A study trains its cases one after the other, each in a run folder, prints its table and
draws the figure. The same command resumes an interrupted study. The scales are smoke
(seconds, synthetic data), small (minutes, shows the claim) and paper (the published
settings, hours).
"""

import json
import pathlib
import sys
import time

from absl import flags, logging

from experiments.papers import pages, results, study
from fedlab.cli.flags import UsageError, check_folder, run_with_flags

_LIST = flags.DEFINE_bool("list", False, "Print the studies, and what was recorded of them.")
_WRITE = flags.DEFINE_bool(
    "write", False, "Write docs/papers.md and the studies' pages from the kept records."
)
_SCALE = flags.DEFINE_enum("scale", "small", study.SCALES, "How much to run.")
_CASES = flags.DEFINE_list("cases", None, "Cases to run, by name. Default: all.")
_SEEDS = flags.DEFINE_list("seeds", None, "Seeds to run. Default: those of the scale.")
_OUT = flags.DEFINE_string("out", "runs/papers", "Folder of the runs, records and figures.")
_PATH = flags.DEFINE_string(
    "path", None, "Folder that holds the data's files, instead of installed or downloaded ones."
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", None, "Clients that train at once. Default: one per core.", lower_bound=1
)
_KEEP = flags.DEFINE_bool("keep", False, "Keep the records with the study, and rewrite the pages.")


def asked():
    """Returns (study, settings, cases) that the flags ask for.

    Raises:
      UsageError: a flag has a value that is not allowed.
    """
    if _NAME not in study.names():
        given = f"study {_NAME!r}" if _NAME else "no study"
        raise UsageError(f"{given}: expected one of {', '.join(study.names())}")
    found = study.load(_NAME)
    settings = dict(found.scales[_SCALE.value])
    if _SEEDS.value is not None:
        wrong = [seed for seed in _SEEDS.value if not seed.isdecimal()]
        if wrong or not _SEEDS.value:
            raise UsageError(f"--seeds={','.join(_SEEDS.value)}: expected integers such as 0,1,2")
        settings["seeds"] = [int(seed) for seed in _SEEDS.value]
    cases = list(found.cases(settings))
    if _CASES.value is not None:
        known = list(dict.fromkeys(case.name for case in cases))
        if not _CASES.value or set(_CASES.value) - set(known):
            raise UsageError(
                f"--cases={','.join(_CASES.value)}: expected some of {', '.join(known)}"
            )
        cases = [case for case in cases if case.name in _CASES.value]
    if _PATH.value and not pathlib.Path(_PATH.value).is_dir():
        raise UsageError(f"--path={_PATH.value}: expected a folder")
    check_folder("out", _OUT.value)
    return found, settings, cases


def complete(found, case, settings, folder):
    """Completes a case; returns its record."""
    file = folder / f"{case.name}-{case.seed}.json"
    settings = {name: value for name, value in settings.items() if name != "seeds"}
    (old,) = results.read(file) or [None]
    if old is not None:
        if old["settings"] == json.loads(json.dumps(settings)):
            return old
        raise ValueError(f"{file}: made with other settings; use another --out, or delete it")
    started = time.perf_counter()
    run_dir = folder / f"{case.name}-{case.seed}"
    path = pathlib.Path(_PATH.value) if _PATH.value else None
    setup = study.Setup(_SCALE.value, settings, path, run_dir, _NUM_WORKERS.value)
    outcome = found.train(case, setup)
    made = results.record(case, settings, outcome, time.perf_counter() - started)
    results.write(file, [made])
    return made


def run():
    found, settings, cases = asked()
    folder = pathlib.Path(_OUT.value) / found.name / _SCALE.value
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i, case in enumerate(cases, 1):
        logging.info("%s: case %d of %d, %s, seed %d", found.name, i, len(cases), *case[:2])
        made.append(complete(found, case, settings, folder))
    if _KEEP.value:
        results.merge(results.kept(found, _SCALE.value), made)
        pages.write([found])
    records = results.by_case(made)
    figure = folder / "figure.png"
    found.draw(records, figure)
    print("\n".join(pages.aligned(pages.table(found, records))))
    print(f"\n{pages.holds(found, records)}\nThe figure is {figure}.")


def main():
    if _LIST.value:
        print("\n".join(pages.listing()))
    elif _WRITE.value:
        pages.write(study.load_all())
    else:
        run()


if __name__ == "__main__":
    # The name of the study comes before the flags, which absl does not read.
    _NAME = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
    run_with_flags(main, check=lambda: None if _LIST.value or _WRITE.value else asked())
