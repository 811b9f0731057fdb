"""scripts/setup, scripts/test and the other scripts, on copies and without network."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {"modern": "requirements.lock", "tff": "requirements-tff.lock"}
VENVS = {"modern": ".venv", "tff": ".venv-tff"}
STACKS = list(LOCKS)
DEFAULT_STACK = re.search("default_stack=(.*)", (ROOT / "scripts" / "stack.sh").read_text())[1]
TOOLS = "awk bash cat cut dirname env flock grep mkdir mv rm sha256sum sleep tail uname".split()

# A stand-in for Python whose pip needs no network: `-m venv` copies it, and `-m pip` records
# its arguments.
STUB_PYTHON = """#!/bin/bash
case "$*" in
  *version_info*) echo "${STUB_VERSION:-VERSION}" ;;
  "-c import venv, ensurepip") exit "${STUB_VENV_STATUS:-0}" ;;
  "-m venv "*)
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    echo "version = ${STUB_VERSION:-VERSION}" >"$3/pyvenv.cfg" ;;
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


def stub_python(path, version):
    return write_script(path, STUB_PYTHON.replace(":-VERSION", f":-{version}"))


class Copy:
    """A copy of what scripts/setup reads, and a stub Python to run it with."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.stack, self.lock = stack, LOCKS[stack]
        self.root = folder / "re po"  # a path with a space, as people have
        (self.root / "scripts").mkdir(parents=True)
        copied = ["scripts/setup", "scripts/stack.sh", "setup.cfg", "pyproject.toml"]
        for name in [*copied, *LOCKS.values()]:
            shutil.copy2(ROOT / name, self.root / name)
        self.python = stub_python(folder / "stub" / "python3.11", "3.11.9")
        self.calls = folder / "calls.txt"

    @property
    def venv(self):
        return self.root / VENVS[self.stack]

    def start(self, *arguments, **variables):
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FEDLAB_", "PIP_"))
        }
        env |= {"FEDLAB_PYTHON": str(self.python), "STUB_CALLS": str(self.calls)} | variables
        return subprocess.Popen(
            [
                shutil.which("bash"),
                str(self.root / "scripts" / "setup"),
                *(arguments or [f"--stack={self.stack}"]),
            ],
            cwd=self.folder,
            env={name: value for name, value in env.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def setup(self, *arguments, **variables):
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def num_pip_calls(self):
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture(params=STACKS)
def repo(tmp_path, request):
    return Copy(tmp_path, request.param)


@pytest.fixture
def modern(tmp_path):
    return Copy(tmp_path, "modern")


@pytest.fixture
def tff(tmp_path):
    return Copy(tmp_path, "tff")


def assert_one_line_error(result, *parts):
    status, _, err = result
    assert status != 0
    assert len(err.splitlines()) == 1, err
    for part in parts:
        assert part in err


def test_first_start_installs_in_order_and_second_returns_at_once(repo):
    status, out, err = repo.setup()
    assert (status, out, err) == (
        0,
        f"fedlab: creating {repo.venv.name} (about two minutes)\n",
        "",
    )
    build_tools, packages, fedlab = repo.calls.read_text().splitlines()
    assert "--require-hashes" in build_tools and "build-tools.txt" in build_tools
    assert "--require-hashes" in packages and packages.endswith(f"--requirement {repo.lock}")
    assert "--editable" in fedlab
    assert all("--no-deps" in call for call in (build_tools, packages, fedlab))
    names = re.findall(r"^([\w-]+)==", (repo.venv / "build-tools.txt").read_text(), re.MULTILINE)
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
    needs = f"the {repo.stack} stack needs Python 3.11"
    assert_one_line_error(result, "no /nonexistent/python3.11", needs, "apt-get install")
    assert not repo.venv.exists()


def with_pythons(repo, **versions):
    """Returns the variables for a start that finds only these Pythons on the path."""
    bin_folder = repo.folder / "bin"
    for name, version in versions.items():
        stub_python(bin_folder / name.replace("_", "."), version)
    for tool in [*TOOLS, "cp"]:  # cp: for the stub
        (bin_folder / tool).symlink_to(shutil.which(tool))
    return {"FEDLAB_PYTHON": None, "PATH": str(bin_folder)}


def test_wrong_python_on_the_path(repo):
    result = repo.setup(**with_pythons(repo, python3="3.9.18"))
    assert_one_line_error(
        result, "no python3.11", "Python 3.9.18 (python3)", "needs Python 3.11", "FEDLAB_PYTHON"
    )
    assert not repo.venv.exists()


def test_modern_takes_the_newest_python(modern):
    found = {"python3": "3.11.2", "python3_11": "3.11.9", "python3_12": "3.12.1"}
    assert modern.setup(**with_pythons(modern, **found))[0] == 0
    assert (modern.venv / "pyvenv.cfg").read_text() == "version = 3.12.1\n"


def test_modern_takes_the_python_of_the_system(modern):
    assert modern.setup(**with_pythons(modern, python3="3.13.5"))[0] == 0
    assert (modern.venv / "pyvenv.cfg").read_text() == "version = 3.13.5\n"


def test_tff_takes_python_3_11_only(tff):
    found = with_pythons(tff, python3="3.13.5", python3_13="3.13.5", python3_11="3.11.9")
    assert tff.setup(**found)[0] == 0
    assert (tff.venv / "pyvenv.cfg").read_text() == "version = 3.11.9\n"


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0", "3.1.5", "2.7.18"])
def test_modern_refuses_other_versions(modern, version):
    result = modern.setup(STUB_VERSION=version)
    assert_one_line_error(result, f"found Python {version} (", "needs Python 3.11, 3.12 or 3.13")


def test_tff_refuses_other_versions(tff):
    result = tff.setup(STUB_VERSION="3.13.0")
    assert_one_line_error(
        result, "found Python 3.13.0 (", "needs Python 3.11:", "use --stack=modern"
    )


def test_wrong_python_leaves_an_older_environment_alone(repo):
    assert repo.setup()[0] == 0
    with open(repo.root / repo.lock, "a") as lock:
        lock.write("# changed\n")
    assert_one_line_error(repo.setup(STUB_VERSION="3.14.1"), "found Python 3.14.1 (")
    assert (repo.venv / "bin" / "python").exists()


def test_python_without_venv(repo):
    result = repo.setup(STUB_VENV_STATUS="1")
    assert_one_line_error(
        result, "found Python 3.11.9", "ensurepip", "apt-get install python3.11-venv"
    )


def test_python_without_venv_is_passed_over(modern):
    found = with_pythons(modern, python3_13="3.13.0", python3_11="3.11.9")
    newest = modern.folder / "bin" / "python3.13"
    newest.write_text(newest.read_text().replace("STUB_VENV_STATUS:-0", "STUB_VENV_STATUS:-1"))
    assert modern.setup(**found)[0] == 0
    assert (modern.venv / "pyvenv.cfg").read_text() == "version = 3.11.9\n"


def test_the_stacks_have_environments_of_their_own(modern):
    assert modern.setup("--stack=tff")[0] == 0
    assert not modern.venv.exists()
    assert modern.setup("--stack=modern")[0] == 0
    assert modern.num_pip_calls() == 6
    with open(modern.root / LOCKS["modern"], "a") as lock:
        lock.write("# changed\n")
    assert modern.setup("--stack=tff") == (0, "", "")
    assert "creating .venv " in modern.setup("--stack=modern")[1]


def test_without_stack_the_default_is_set_up(modern):
    assert DEFAULT_STACK == "modern"
    subprocess.run(
        [shutil.which("bash"), str(modern.root / "scripts" / "setup")],
        env={**os.environ, "FEDLAB_PYTHON": str(modern.python), "STUB_CALLS": str(modern.calls)},
        check=True,
        timeout=60,
    )
    assert (modern.root / VENVS[DEFAULT_STACK] / "bin" / "python").exists()
    assert len(list(modern.root.glob(".venv*"))) == 1


@pytest.mark.parametrize("argument", ["--stack", "--stack=", "--stack=keras3", "--stack=tff2"])
def test_unknown_stack(modern, argument):
    expected = f"setup: {argument}: expected --stack=modern or --stack=tff\n"
    assert modern.setup(argument) == (2, "", expected)


def test_unknown_argument(modern):
    result = modern.setup("--stack=tff", "--help")
    assert_one_line_error(result, "--help: expected no argument but --stack=modern or --stack=tff")


@pytest.mark.slow
def test_no_network_with_the_real_pip(modern):
    nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    result = modern.setup(FEDLAB_PYTHON=sys.executable, **nowhere)
    assert_one_line_error(result, "No matching distribution found", "check the network")
    log = Path(result[2].strip().rpartition("log: ")[2])
    assert "No matching distribution found" in log.read_text()
    # What is left does not pass for an environment.
    assert_one_line_error(
        modern.setup(FEDLAB_PYTHON=sys.executable, **nowhere), "No matching distribution found"
    )


def test_half_made_environment_is_made_again(repo):
    assert_one_line_error(repo.setup(STUB_PIP_STATUS="1"), "pip could not install", "setup.log")
    (repo.venv / "left-over").touch()
    status, out, err = repo.setup()
    assert (status, err) == (0, "")
    assert f"creating {repo.venv.name}" in out
    assert not (repo.venv / "left-over").exists()


@pytest.mark.parametrize(
    "name, num_pip_calls", [(None, 3), ("setup.cfg", 1), ("pyproject.toml", 1)]
)
def test_a_change_installs_what_it_touches(repo, name, num_pip_calls):
    assert repo.setup()[0] == 0
    with open(repo.root / (name or repo.lock), "a") as file:
        file.write("# changed\n")
    before = repo.num_pip_calls()
    assert repo.setup()[0] == 0
    assert repo.num_pip_calls() - before == num_pip_calls
    assert repo.setup() == (0, "", "")
    assert repo.num_pip_calls() - before == num_pip_calls


def test_a_moved_repository_gets_its_own_environment(repo):
    assert repo.setup()[0] == 0
    repo.root = repo.root.rename(repo.folder / "moved")
    assert f"creating {repo.venv.name}" in repo.setup()[1]


def test_a_removed_python_is_noticed(repo):
    assert repo.setup()[0] == 0
    (repo.venv / "bin" / "python").unlink()
    assert f"creating {repo.venv.name}" in repo.setup()[1]


def test_another_python_asked_for(repo):
    assert repo.setup()[0] == 0
    other = stub_python(repo.folder / "other" / "python3.11", "3.11.9")
    assert f"creating {repo.venv.name}" in repo.setup(FEDLAB_PYTHON="other/python3.11")[1]
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


def run_script(tmp_path, name, stand_in, *arguments, venv=VENVS[DEFAULT_STACK]):
    """Runs a copy of a script with the script `stand_in` as every program of an environment."""
    for file in (name, "stack.sh"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy2(ROOT / "scripts" / file, tmp_path / "scripts" / file)
    write_script(tmp_path / "scripts" / "setup", '#!/bin/bash\necho "setup $*" >>setup.txt\n')
    for program in ("python", "ruff", "mypy"):
        write_script(tmp_path / venv / "bin" / program, "#!/bin/bash\n" + stand_in)
    command = [shutil.which("bash"), str(tmp_path / "scripts" / name), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30
    )


def run_tests_script(tmp_path, pytest_stand_in, *arguments):
    return run_script(tmp_path, "test", pytest_stand_in, *arguments)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    "name, expected",
    [
        ("test", ["-m pytest tests/clients -x"]),
        ("demo", ["-m experiments.shakespeare.run --flagfile=", " tests/clients -x"]),
        ("bench", ["-m experiments.bench.run tests/clients -x"]),
        ("pretrain", ["-m experiments.dickens.run tests/clients -x"]),
    ],
)
def test_scripts_use_the_environment_of_the_stack(tmp_path, name, expected, stack):
    arguments = ["tests/clients", f"--stack={stack}", "-x"]
    done = run_script(tmp_path, name, 'echo "$0 $*"', *arguments, venv=VENVS[stack])
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(rf"(.*/)?{VENVS[stack]}/bin/python ", done.stdout)
    assert all(part in done.stdout for part in expected)
    assert (tmp_path / "setup.txt").read_text() == f"setup --stack={stack}\n"


@pytest.mark.parametrize("stack", STACKS)
def test_lint_uses_the_environment_of_the_stack(tmp_path, stack):
    done = run_script(tmp_path, "lint", 'echo "$0"', f"--stack={stack}", venv=VENVS[stack])
    assert (done.returncode, done.stderr) == (0, "")
    programs = [f"{VENVS[stack]}/bin/{program}" for program in ("ruff", "ruff", "mypy")]
    assert done.stdout.split() == programs


@pytest.mark.parametrize(
    "arguments, expected", [([], "build"), (["--serve"], "serve")], ids=["build", "serve"]
)
def test_the_documentation_is_built_without_warnings(tmp_path, arguments, expected):
    done = run_script(tmp_path, "docs", 'echo "$*"', *arguments, venv=".venv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"-m mkdocs {expected} --strict --quiet\n")
    assert (tmp_path / "setup.txt").read_text() == "setup --stack=modern\n"


def test_the_documentation_needs_the_modern_stack(tmp_path):
    done = run_script(tmp_path, "docs", "exit 1", "--stack=tff")
    assert done.returncode == 2 and "expected --stack=modern" in done.stderr


@pytest.mark.parametrize("stack", STACKS)
def test_the_stacks_have_demos_of_their_own(tmp_path, stack):
    done = run_script(tmp_path, "demo", 'echo "$*"', f"--stack={stack}", "-x", venv=VENVS[stack])
    folder = [] if stack == DEFAULT_STACK else [f"--run_dir=runs/demo-{stack}"]
    assert done.stdout.split()[3:] == [*folder, "-x"]


@pytest.mark.parametrize(
    "name", ["audit", "bench", "demo", "docs", "lint", "lock", "pretrain", "test"]
)
def test_every_script_refuses_an_unknown_stack(tmp_path, name):
    done = run_script(tmp_path, name, "exit 1", "--stack=new")
    expected = f"{name}: --stack=new: expected --stack=modern or --stack=tff\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    assert not (tmp_path / "setup.txt").exists()


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
