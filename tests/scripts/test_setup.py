"""scripts/setup, scripts/test and the lock, on copies in a temporary folder, without network."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
TOOLS = "awk bash cat cut dirname env flock grep mkdir mv rm sha256sum sleep tail uname".split()

# A stand-in for Python 3.11 whose pip needs no network: `-m venv` copies it, and `-m pip` records
# its arguments.
STUB_PYTHON = """#!/bin/bash
case "$*" in
  *version_info*) echo "${STUB_VERSION:-3.11.9}" ;;
  "-c import venv, ensurepip") exit "${STUB_VENV_STATUS:-0}" ;;
  "-m venv "*)
    mkdir -p "$3/bin" && echo "version = 3.11.9" >"$3/pyvenv.cfg" && cp "$0" "$3/bin/python" ;;
  "-m pip "*)
    sleep "${STUB_PIP_SECONDS:-0}"; echo "$*" >>"$STUB_CALLS"; exit "${STUB_PIP_STATUS:-0}" ;;
  *) exit 99 ;;
esac
"""


def write_script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Copy:
    """A copy of what scripts/setup reads, and a stub Python to run it with."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "re po"  # a path with a space, as people have
        (self.root / "scripts").mkdir(parents=True)
        for name in ["scripts/setup", "requirements.lock", "setup.cfg", "pyproject.toml"]:
            shutil.copy2(ROOT / name, self.root / name)
        self.python = write_script(folder / "stub" / "python3.11", STUB_PYTHON)
        self.calls = folder / "calls.txt"

    def start(self, **variables):
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FEDLAB_", "PIP_"))
        }
        env |= {"FEDLAB_PYTHON": str(self.python), "STUB_CALLS": str(self.calls)} | variables
        return subprocess.Popen(
            [shutil.which("bash"), str(self.root / "scripts" / "setup")],
            cwd=self.folder,
            env={name: value for name, value in env.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def setup(self, **variables):
        process = self.start(**variables)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def num_pip_calls(self):
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def repo(tmp_path):
    return Copy(tmp_path)


def assert_one_line_error(result, *parts):
    status, _, err = result
    assert status != 0
    assert len(err.splitlines()) == 1, err
    for part in parts:
        assert part in err


def test_first_start_installs_in_order_and_second_returns_at_once(repo):
    status, out, err = repo.setup()
    assert (status, out, err) == (0, "fedlab: creating .venv (about two minutes)\n", "")
    build_tools, packages, fedlab = repo.calls.read_text().splitlines()
    assert "--require-hashes" in build_tools and "build-tools.txt" in build_tools
    assert "--require-hashes" in packages and "requirements.lock" in packages
    assert "--editable" in fedlab
    assert all("--no-deps" in call for call in (build_tools, packages, fedlab))
    names = re.findall(
        r"^([\w-]+)==", (repo.root / ".venv" / "build-tools.txt").read_text(), re.MULTILINE
    )
    assert names == ["setuptools", "wheel"]

    started = time.monotonic()
    status, out, err = repo.setup()
    seconds = time.monotonic() - started
    assert (status, out, err) == (0, "", "")
    assert repo.num_pip_calls() == 3
    assert seconds < 1  # the promise to whoever types scripts/demo again and again


def test_second_start_needs_no_python(repo):
    assert repo.setup()[0] == 0
    assert repo.setup(FEDLAB_PYTHON=None, STUB_VERSION="3.9.18", STUB_PIP_STATUS="1") == (0, "", "")


def test_missing_python(repo):
    result = repo.setup(FEDLAB_PYTHON="/nonexistent/python3.11")
    assert_one_line_error(
        result, "no /nonexistent/python3.11", "needs Python 3.11", "apt-get install"
    )
    assert not (repo.root / ".venv").exists()


def test_wrong_python_on_the_path(repo):
    bin_folder = repo.folder / "bin"
    write_script(bin_folder / "python3", STUB_PYTHON)
    for tool in TOOLS:
        (bin_folder / tool).symlink_to(shutil.which(tool))
    result = repo.setup(FEDLAB_PYTHON=None, PATH=str(bin_folder), STUB_VERSION="3.9.18")
    assert_one_line_error(
        result, "no python3.11", "Python 3.9.18 (python3)", "needs Python 3.11", "FEDLAB_PYTHON"
    )
    assert not (repo.root / ".venv").exists()


def test_wrong_python_leaves_an_older_environment_alone(repo):
    assert repo.setup()[0] == 0
    with open(repo.root / "requirements.lock", "a") as lock:
        lock.write("# changed\n")
    assert_one_line_error(repo.setup(STUB_VERSION="3.12.1"), "found Python 3.12.1 (")
    assert (repo.root / ".venv" / "bin" / "python").exists()


def test_python_without_venv(repo):
    result = repo.setup(STUB_VENV_STATUS="1")
    assert_one_line_error(
        result, "found Python 3.11.9", "ensurepip", "apt-get install python3.11-venv"
    )


@pytest.mark.slow
def test_no_network_with_the_real_pip(repo):
    nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    result = repo.setup(FEDLAB_PYTHON=sys.executable, **nowhere)
    assert_one_line_error(result, "No matching distribution found", "check the network")
    log = Path(result[2].strip().rpartition("log: ")[2])
    assert "No matching distribution found" in log.read_text()
    # What is left does not pass for an environment.
    assert_one_line_error(
        repo.setup(FEDLAB_PYTHON=sys.executable, **nowhere), "No matching distribution found"
    )


def test_half_made_environment_is_made_again(repo):
    assert_one_line_error(repo.setup(STUB_PIP_STATUS="1"), "pip could not install", "setup.log")
    (repo.root / ".venv" / "left-over").touch()
    status, out, err = repo.setup()
    assert (status, err) == (0, "")
    assert "creating .venv" in out
    assert not (repo.root / ".venv" / "left-over").exists()


@pytest.mark.parametrize(
    "name, num_pip_calls", [("requirements.lock", 3), ("setup.cfg", 1), ("pyproject.toml", 1)]
)
def test_a_change_installs_what_it_touches(repo, name, num_pip_calls):
    assert repo.setup()[0] == 0
    with open(repo.root / name, "a") as file:
        file.write("# changed\n")
    before = repo.num_pip_calls()
    assert repo.setup()[0] == 0
    assert repo.num_pip_calls() - before == num_pip_calls
    assert repo.setup() == (0, "", "")
    assert repo.num_pip_calls() - before == num_pip_calls


def test_a_moved_repository_gets_its_own_environment(repo):
    assert repo.setup()[0] == 0
    repo.root = repo.root.rename(repo.folder / "moved")
    assert "creating .venv" in repo.setup()[1]


def test_a_removed_python_is_noticed(repo):
    assert repo.setup()[0] == 0
    (repo.root / ".venv" / "bin" / "python").unlink()
    assert "creating .venv" in repo.setup()[1]


def test_another_python_asked_for(repo):
    assert repo.setup()[0] == 0
    other = write_script(repo.folder / "other" / "python3.11", STUB_PYTHON)
    assert "creating .venv" in repo.setup(FEDLAB_PYTHON="other/python3.11")[1]
    assert repo.setup(FEDLAB_PYTHON=str(other)) == (0, "", "")
    assert repo.setup(FEDLAB_PYTHON=None) == (0, "", "")


def test_two_starts_at_once_install_once(repo):
    both = [repo.start(STUB_PIP_SECONDS="0.2") for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(out.count("creating") for out, _ in ends) == [0, 1]
    assert repo.num_pip_calls() == 3


PROCESSES = len(os.sched_getaffinity(0))
IN_PARALLEL = f"-m pytest --numprocesses {PROCESSES} --maxprocesses 4 --dist worksteal"


def run_tests_script(tmp_path, pytest_stand_in, *arguments):
    """Runs a copy of scripts/test with the script `pytest_stand_in` as .venv/bin/python."""
    (tmp_path / "scripts").mkdir()
    shutil.copy2(ROOT / "scripts" / "test", tmp_path / "scripts" / "test")
    write_script(tmp_path / "scripts" / "setup", "#!/bin/bash\n")
    write_script(tmp_path / ".venv" / "bin" / "python", "#!/bin/bash\n" + pytest_stand_in)
    command = [shutil.which("bash"), str(tmp_path / "scripts" / "test"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30
    )


def test_test_script_ends_workers_that_outlive_the_tests(tmp_path):
    # The pipes of capture_output stay open while the sleeping child lives: unless it is ended,
    # there is a TimeoutExpired.
    worker = "setsid sleep 300 & echo $! >worker.pid; exit 3"
    done = run_tests_script(tmp_path, worker)
    assert done.returncode == 3
    assert "ended 1 process" in done.stderr
    # Gone, or a zombie with an empty command line where nothing reaps orphans, as in many
    # containers.
    command_line = Path("/proc", (tmp_path / "worker.pid").read_text().strip(), "cmdline")
    assert not command_line.exists() or command_line.read_bytes() == b""


@pytest.mark.parametrize(
    "arguments, expected, says_skipped",
    [
        ([], [IN_PARALLEL], True),
        (["tests/data", "-k", "a b"], ["-m pytest tests/data -k a b"], True),
        (["--all"], [f"{IN_PARALLEL} -m not alone", "-m pytest -m alone"], False),
        (["--all", "-x"], ["-m pytest -m  -x"], False),
    ],
)
def test_test_script_hands_on_arguments(tmp_path, arguments, expected, says_skipped):
    done = run_tests_script(tmp_path, 'echo "$*"', *arguments)
    assert done.returncode == 0
    assert done.stdout.splitlines()[: len(expected)] == expected
    assert ("slow tests were skipped" in done.stdout) is says_skipped


def test_test_script_fails_where_either_part_fails(tmp_path):
    for part in ("--numprocesses", "-m alone"):
        folder = tmp_path / part
        folder.mkdir()
        done = run_tests_script(folder, f'case "$*" in *"{part}"*) exit 1 ;; esac', "--all")
        assert done.returncode == 1, part


def requirements():
    """Each entry of the lock: its first line and the lines that go on from it."""
    text = re.sub(r"^\s*#.*\n", "", LOCK.read_text(), flags=re.MULTILINE)
    return [entry.replace("\\\n", " ").split() for entry in re.split(r"\n(?=\S)", text.strip())]


def test_lock_pins_and_hashes_every_requirement():
    entries = requirements()
    assert len(entries) > 80
    for requirement, *hashes in entries:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+", requirement)
        assert hashes, requirement
        assert all(
            re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", item) for item in hashes
        ), requirement


def test_lock_has_every_requirement():
    locked = dict(entry[0].split("==") for entry in requirements())
    for line in (ROOT / "requirements.in").read_text().splitlines():
        if line and not line.startswith("#"):
            name = re.match(r"[\w.-]+", line)[0]
            _, _, version = line.partition("==")
            assert locked[name].startswith(version.rstrip("*")), line


def test_lock_has_no_address():
    assert not re.search(r"://|file:|index-url|find-links|/opt|/root|/tmp|/home", LOCK.read_text())


def test_no_file_of_the_repository_names_an_index():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    # The parts are joined here so that this file does not name what it looks for.
    addresses = re.compile(
        rb"|".join(
            [rb"pythonhosted" + rb"\.org", rb"://[^\s\"'<>]*/sim" + rb"ple\b", rb"/opt/" + rb"pypi"]
        )
    )
    assert addresses.search(b"https://example.com/root/" + b"simple/absl-py")
    named = [
        name
        for name in names.split("\0")
        if name and (ROOT / name).is_file() and addresses.search((ROOT / name).read_bytes())
    ]
    assert named == []
