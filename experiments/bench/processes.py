"""Memory and CPU time of a process and its children on Linux."""

import contextlib
import multiprocessing

import psutil

from fedlab.cli._startup import hide_messages_of_tensorflow


def answers(function, *arguments):
    """Yields what `function(connection, *arguments)` sends from a new process.

    Raises:
      RuntimeError: the process failed.
    """
    spawn = multiprocessing.get_context("spawn")  # TensorFlow does not work after a fork
    receive, send = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_quietly, args=(function, send, *arguments), daemon=True)
    child.start()
    send.close()
    try:
        with contextlib.suppress(EOFError):
            while True:
                yield receive.recv()
        child.join()
        if child.exitcode:
            raise RuntimeError(
                f"the process of {function.__module__} ended with exit code {child.exitcode}"
            )
    finally:
        child.kill()
        child.join()


def _quietly(function, *arguments):
    hide_messages_of_tensorflow()
    function(*arguments)


def tree(pid):
    """Returns the process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def peak_mb(pid):
    """Returns the sum of the processes' peaks of resident memory (VmHWM), in MB of 10^6 bytes.

    With several processes, the peaks may not have occurred at the same time.
    """
    return _status_mb(pid, "VmHWM")


def resident_mb(pid):
    """Returns the resident memory (VmRSS) of the tree in MB."""
    return _status_mb(pid, "VmRSS")


def own_mb(pid):
    """Returns the resident memory of the tree without mapped files (RssAnon), in MB."""
    return _status_mb(pid, "RssAnon")


def forget_peak(pid):
    """Resets the peaks of the tree to its present memory, by writing 5 to `clear_refs`."""
    for process in tree(pid):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{process.pid}/clear_refs", "w", encoding="ascii") as file,
        ):
            file.write("5")


def cpu_s(pid):
    """Returns the CPU seconds that the running processes of the tree have used."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def machine_cpu_s():
    """Returns the CPU seconds used by all processes of the machine and by other guests."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def _status_mb(pid, field):
    total = 0
    for process in tree(pid):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as file,
        ):
            total += next(
                (int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":")), 0
            )
    return total / 1e6
