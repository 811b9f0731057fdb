"""One process a run folder."""

import fcntl
import os


class Lock:
    """A file that this process alone holds, until `close` or its own end, however that comes.

    Args:
      path: the file; it stays, and names the process that held it last.

    Raises:
      ValueError: another process holds it, or this one a second time.
      OSError: it cannot be written.
    """

    def __init__(self, path):
        self._file = open(path, "a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().decode("ascii", "replace").strip()
            self._file.close()
            raise ValueError(
                f"{path.parent} is in use by process {pid or 'unknown'}: wait until that run ends, or choose another run folder."
            ) from None
        try:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n".encode())
        except OSError:
            self._file.close()
            raise

    def close(self):
        self._file.close()
