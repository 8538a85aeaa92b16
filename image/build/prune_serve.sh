#!/usr/bin/env bash
# Our other Python packages come with their debugging symbols: three quarters of the embedded llama.cpp.
# Libraries that a wheel carries in NAME.libs stay as they are: stripping breaks some of them.
set -euo pipefail

cd "$1"
find . -name '*.so' -type f -not -path './*.libs/*' -exec strip --strip-unneeded {} +
