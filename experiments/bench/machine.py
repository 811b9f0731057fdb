"""Describes the machine and the code of a measurement."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil


def num_cores():
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def describe():
    """Returns the processor, memory, versions, and how busy the machine is."""
    return {
        "cpu": _cpu(),
        "cores": num_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def versions():
    """Returns the versions of the libraries of this environment; None for a missing one."""
    names = ("tensorflow", "keras", "tensorflow-federated", "flwr", "numpy", "numba")
    return {name.replace("-", "_"): _version(name) for name in names}


def commit():
    """Returns the commit, with "+" if tracked files have changed, or None outside of git."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + "+" * bool(
            git("status", "--porcelain", "--untracked-files=no")
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
