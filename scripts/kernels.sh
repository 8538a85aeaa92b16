#!/usr/bin/env bash
# Compile supervisor/distill/fast/kernels.cpp for the processors that a lesson may run on:
#
#   scripts/kernels.sh [MACHINE] [FOLDER]      MACHINE: x86_64 or aarch64, by default this one; FOLDER: beside the source
#
# What is newer than the source stays. CXX: the compiler, by default g++, or Debian's cross compiler for another machine.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source=$here/supervisor/distill/fast/kernels.cpp
machine=${1:-$(uname -m)}
folder=${2:-$(dirname "$source")}

case $machine in
  x86_64) kinds='x86-64-v3 x86-64-v4' ;;  # AVX2, AVX-512
  aarch64) kinds=armv8-a ;;
  *) echo "kernels: none are made for $machine; lessons do without" >&2; exit 0 ;;
esac
if [ "$machine" = "$(uname -m)" ]; then compiler=${CXX:-g++}; else compiler=${CXX:-${machine/_/-}-linux-gnu-g++}; fi
if ! command -v "$compiler" >/dev/null; then
  echo "kernels: $compiler is not there (Debian, Ubuntu: apt-get install g++)" >&2
  exit 1
fi

newer() {  # than the source and this script, all of them
  local kind values made
  for kind in $kinds; do
    for values in float32 bfloat16; do
      made=$folder/kernels-$kind-$values.so
      [ "$made" -nt "$source" ] && [ "$made" -nt "${BASH_SOURCE[0]}" ] || return
    done
  done
}
if newer; then exit; fi

# Without what is not true of lessons: nobody reads errno, and sums may be taken in another order. NaN stays NaN.
options=(-std=c++17 -O3 -fopenmp -fPIC -fno-exceptions -fno-rtti -fvisibility=hidden)
options+=(-fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math -freciprocal-math)
scratch=$(mktemp -d "$folder/.kernels.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
for kind in $kinds; do
  if [ "$kind" = x86-64-v4 ]; then width=-mprefer-vector-width=512; else width=; fi
  for values in float32 bfloat16; do
    # Linked without -fopenmp: its functions are PyTorch's.
    "$compiler" "${options[@]}" "-march=$kind" $width "-D${values^^}" -c "$source" -o "$scratch/kernels.o"
    "$compiler" -shared -s -nodefaultlibs "$scratch/kernels.o" -lm -lc -o "$scratch/kernels.so"
    mv "$scratch/kernels.so" "$folder/kernels-$kind-$values.so"
  done
done
