# Sourced by the other scripts at the root of the repository. Takes --stack=NAME out of the
# arguments, and sets:
#
#   stack          modern or tff
#   venv           the stack's environment
#   lock           the stack's lock file
#   arguments      the other arguments, an array
#   candidates     the names of Pythons that may make the environment, in order of preference
#   pythons        the versions that may, as text
#   is_supported   function: version (3.11.9) -> whether it may
default_stack=modern

stack=$default_stack
arguments=()
for argument in "$@"; do
  case $argument in
    --stack=modern | --stack=tff) stack=${argument#--stack=} ;;
    --stack | --stack=*)
      echo "${0##*/}: $argument: expected --stack=modern or --stack=tff" >&2
      exit 2
      ;;
    *) arguments+=("$argument") ;;
  esac
done

case $stack in
  modern)
    venv=.venv lock=requirements.lock pythons="3.11, 3.12 or 3.13"
    candidates=(python3.13 python3.12 python3.11 python3)
    ;;
  tff)
    venv=.venv-tff lock=requirements-tff.lock pythons=3.11
    candidates=(python3.11 python3)
    ;;
esac

is_supported() {
  case $stack,$1 in
    modern,3.1[123].* | tff,3.11.*) ;;
    *) return 1 ;;
  esac
}

# Prints a Python for a tool that is not part of the stack, whatever its version.
any_python() {
  local candidate
  for candidate in ${FEDLAB_PYTHON:+"$FEDLAB_PYTHON"} python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1 </dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "${0##*/}: found no Python with the modules venv and ensurepip; set FEDLAB_PYTHON to the" \
    "path of one (Debian, Ubuntu: apt-get install python3-venv)" >&2
  return 1
}
