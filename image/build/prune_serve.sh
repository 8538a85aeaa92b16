#!/usr/bin/env bash
# In the current folder of Python packages, what another one has goes:  prune_serve.sh HAS
# The rest comes with its debugging symbols, three quarters of the embedded llama.cpp: they go too.
# Libraries that a wheel carries in NAME.libs stay as they are: stripping breaks some of them.
set -euo pipefail

rm -rf bin
for had in "$1"/*; do rm -rf "./${had##*/}"; done
find . -name '*.so' -type f -not -path './*.libs/*' -exec strip --strip-unneeded {} +
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$PWD"
