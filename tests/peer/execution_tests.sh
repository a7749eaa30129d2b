#!/bin/sh
# Runs ComfyUI's own tests of its execution engine, unmodified, against this server.
#
#   tests/peer/execution_tests.sh COMFYUI_CHECKOUT [PYTEST ARGUMENTS…]
#
# The tests start `python main.py` with ComfyUI's flags. In a scratch folder, main.py is four lines that become our server
# with those flags; the tests and the package of ComfyUI that they import are copied there from the checkout.
#
#   PYTHON     an interpreter with torch, numpy, pillow, pytest and websocket-client  [python3]
#   VIVARIUM   the server                                                             [target/debug/vivarium]
#   PACKS      a folder with image.wasm, mask.wasm and testing_pack.wasm; without it they are taken from where
#              `cargo xtask nodes` puts them
#   PORT       where the server listens                                               [8190]
#   FLAGS      more flags for the server, for example --cache-none (then with: -k 'server0')
set -eu

checkout=$(realpath "${1:?the path of a ComfyUI checkout}")
shift
root=$(realpath "$(dirname "$0")/../..")
python=${PYTHON:-python3}
vivarium=$(realpath "${VIVARIUM:-$root/target/debug/vivarium}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir -p "$scratch/packs" "$scratch/tests"
if [ -n "${PACKS:-}" ]; then
    cp "$PACKS"/*.wasm "$scratch/packs"
else
    cp "$root"/target/debug/packs/*.wasm "$root/target/test-packs/testing_pack.wasm" "$scratch/packs"
fi

cp -r "$checkout/comfy_execution" "$checkout/pytest.ini" "$scratch"
for name in __init__.py conftest.py execution; do
    cp -r "$checkout/tests/$name" "$scratch/tests"
done

# Flags that mean nothing here: there is no GPU to avoid, and packs are no Python folders. ComfyUI forgets its history when
# it stops; our server does not, so that each start gets a folder of its own.
cat >"$scratch/main.py" <<END
import os, sys, tempfile
flags, skipped = sys.argv[1:], {"--cpu": 1, "--extra-model-paths-config": 2}
for flag, length in skipped.items():
    if flag in flags:
        del flags[flags.index(flag):flags.index(flag) + length]
base = tempfile.mkdtemp(dir="$scratch")
flags = ["--packs-directory", "$scratch/packs", "--base-directory", base, *flags, *"${FLAGS:-}".split()]
os.execv("$vivarium", ["vivarium", "serve", *flags])
END

cd "$scratch"
PATH="$(dirname "$(command -v "$python")"):$PATH" "$python" -m pytest tests/execution -p no:cacheprovider \
    --output_dir "$scratch/output" --port "${PORT:-8190}" "$@"
