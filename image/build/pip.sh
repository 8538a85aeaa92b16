#!/usr/bin/env bash
# pip for the image's Python and architecture, from wheels only: `pip.sh install ...` into the virtual environment,
# or into the folder SITE. Commands of packages land in its bin/, with the builder's interpreter.
set -euo pipefail

case $TARGETARCH in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "pip: no image is made for $TARGETARCH" >&2; exit 1 ;;
esac
options=(-qq --only-binary=:all: --implementation cp --python-version 3.11)
for glibc in 2_36 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17 2014; do
  case $glibc in 2014) name=manylinux2014 ;; *) name=manylinux_$glibc ;; esac
  options+=(--platform "${name}_$machine")
done
command=$1
shift
if [ "$command" = install ]; then options+=(--no-compile --target "${SITE:-/opt/clawlama/lib/python3.11/site-packages}"); fi
pip "$command" "${options[@]}" "$@"
