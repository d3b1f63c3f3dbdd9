#!/bin/sh
# Prints the first fitting interpreter of those given, or else of python3.13, 3.12, 3.11, python3: on PATH, then in ~/.pyenv/versions.
# Fitting: it runs, is the version that its name says, is 3.11 or later, and can make a virtual environment.
set -u

fits() {
    "$1" - "${2##*/}" <<'PYTHON' >/dev/null 2>&1
import ensurepip, re, sys, venv
named = re.fullmatch(r"python3\.(\d+)", sys.argv[1])
sys.exit(sys.version_info < (3, 11) or (named is not None and sys.version_info[1] != int(named[1])))
PYTHON
}

[ $# -gt 0 ] || set -- python3.13 python3.12 python3.11 python3
for name; do
    for python in "$name" "$HOME"/.pyenv/versions/"${name#python}"[.a-z]*/bin/python "$HOME"/.pyenv/versions/"${name#python}"/bin/python; do
        if fits "$python" "$name"; then
            command -v "$python"
            exit 0
        fi
    done
done
echo "error: no Python 3.11 or later with venv and ensurepip among: $*; install one (Debian: python3.12-venv) or name it: make PYTHON=/path/to/python3" >&2
exit 1
