"""What a process and its children use, as Linux counts it."""

import contextlib
import multiprocessing

import psutil


def answers(function, *arguments):
    """Yields what `function(connection, *arguments)` sends from a process of its own, until it closes the connection.

    Raises:
      RuntimeError: the process failed.
    """
    spawn = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    receive, send = spawn.Pipe(duplex=False)
    child = spawn.Process(target=function, args=(send, *arguments), daemon=True)
    child.start()
    send.close()
    try:
        with contextlib.suppress(EOFError):
            while True:
                yield receive.recv()
        child.join()
        if child.exitcode:
            raise RuntimeError(
                f"the process of {function.__module__} ended with exit code {child.exitcode}."
            )
    finally:
        child.kill()
        child.join()


def tree(pid):
    """The process and all that descend from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def peak_mb(pid):
    """The largest memory each process of the tree ever had in RAM (VmHWM), added up, in MB of 10^6 bytes.

    Exact for one process; for several it is the sum of peaks that may not have come at the same time.
    """
    return _status_mb(pid, "VmHWM")


def resident_mb(pid):
    """The memory that the tree has in RAM now (VmRSS), in MB."""
    return _status_mb(pid, "VmRSS")


def forget_peak(pid):
    """Starts the peaks of the tree anew at what it has now. Linux: `clear_refs`, 5."""
    for process in tree(pid):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{process.pid}/clear_refs", "w", encoding="ascii") as file,
        ):
            file.write("5")


def cpu_s(pid):
    """CPU seconds of the tree's living processes so far."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def machine_cpu_s():
    """CPU seconds that all processes of the machine, and other guests on its host, have used so far."""
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
