#!/bin/sh
# Sets up a ComfyUI on the CPU, outside this repository, as the peer that we measure and record against.
#
#   setup.sh SOURCE DEST
#
# SOURCE: a folder with ComfyUI's source (you have to have it: it is GPL and not part of this project).
# DEST:   a folder to create; gets ComfyUI/, venv/, data/ and start.sh. About 6.5 GB: PyTorch from PyPI brings CUDA.
#
# Then: DEST/start.sh [PORT]   (8288 when not given; logs to the terminal, stops with Ctrl-C)
set -eu
if [ $# -ne 2 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
source=$(cd "$1" && pwd)
mkdir -p "$2"
dest=$(cd "$2" && pwd)
[ -f "$source/main.py" ] || { echo "setup.sh: $source has no main.py, so it is no ComfyUI source folder" >&2; exit 1; }

[ -d "$dest/ComfyUI" ] || cp -r "$source" "$dest/ComfyUI"
[ -d "$dest/venv" ] || python3 -m venv "$dest/venv"
"$dest/venv/bin/pip" install --quiet --upgrade pip
# `requests` is imported by the server but missing from its own list.
"$dest/venv/bin/pip" install --no-cache-dir --quiet -r "$dest/ComfyUI/requirements.txt" requests websocket-client

cat > "$dest/start.sh" <<EOF
#!/bin/sh
# start.sh [PORT]: the peer on the CPU, without paid API nodes and without custom nodes.
base=\${PEER_DATA:-$dest/data}
mkdir -p "\$base/input" "\$base/output" "\$base/temp" "\$base/user" "\$base/models" "\$base/custom_nodes"
cd "$dest/ComfyUI"
# ComfyUI keeps outputs in a set: with this hash seed the recorded ones stay in the order of their ids.
exec env PYTHONHASHSEED=32 "$dest/venv/bin/python" main.py --cpu --port "\${1:-8288}" --base-directory "\$base" \\
    --disable-api-nodes --disable-all-custom-nodes
EOF
chmod +x "$dest/start.sh"
echo "ready: $dest/start.sh [PORT]"
