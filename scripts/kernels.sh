#!/usr/bin/env bash
# Compile the C++ in supervisor/distill/fast for the processors that a lesson may run on:
#
#   scripts/kernels.sh [MACHINE] [FOLDER]      MACHINE: x86_64 or aarch64, by default this one; FOLDER: beside the source
#
# What is newer than the sources stays. CXX: the compiler, by default g++, or Debian's cross compiler for another machine.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source=$here/supervisor/distill/fast
machine=${1:-$(uname -m)}
folder=${2:-$source}

case $machine in
  x86_64) kinds='x86-64-v3 x86-64-v4 x86-64-bf16 x86-64-amx' ;;  # AVX2, AVX-512, its bfloat16, Intel's tiles
  aarch64) kinds=armv8-a ;;
  *) echo "kernels: none are made for $machine; lessons do without" >&2; exit 0 ;;
esac
if [ "$machine" = "$(uname -m)" ]; then compiler=${CXX:-g++}; else compiler=${CXX:-${machine/_/-}-linux-gnu-g++}; fi
if ! command -v "$compiler" >/dev/null; then
  echo "kernels: $compiler is not there (Debian, Ubuntu: apt-get install g++)" >&2
  exit 1
fi

if [ "$machine" = x86_64 ] && ! "$compiler" -mamx-bf16 -x c++ -E - </dev/null >/dev/null 2>&1; then
  kinds='x86-64-v3 x86-64-v4'
  echo "kernels: $compiler is too old for a processor's bfloat16 (g++ from 11 on knows it); lessons are slower without" >&2
fi

newer() {  # than the sources and this script, all of them
  local kind values file made
  for kind in $kinds; do
    for values in float32 bfloat16; do
      made=$folder/kernels-$kind-$values.so
      for file in "$source"/*.cpp "$source"/*.h "${BASH_SOURCE[0]}"; do [ "$made" -nt "$file" ] || return; done
    done
  done
}
if newer; then exit; fi

options=(-std=c++17 -O3 -fopenmp -fPIC -fno-exceptions -fno-rtti -fvisibility=hidden -fno-math-errno -fno-trapping-math
  -fno-strict-aliasing)
loose=(-fno-signed-zeros -fassociative-math -freciprocal-math)  # sums may be taken in another order; NaN stays NaN
exact=(-ffp-contract=off)
compile() {  # NAME [OPTION ...]
  local name=$1
  shift
  "$compiler" "${options[@]}" "$@" "${able[@]}" "-D${values^^}" -c "$source/$name.cpp" -o "$scratch/$name.o"
}

scratch=$(mktemp -d "$folder/.kernels.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
for kind in $kinds; do
  case $kind in
    x86-64-v4) able=(-march=x86-64-v4 -mprefer-vector-width=512) ;;
    x86-64-bf16) able=(-march=x86-64-v4 -mprefer-vector-width=512 -mavx512bf16) ;;
    x86-64-amx) able=(-march=x86-64-v4 -mprefer-vector-width=512 -mavx512bf16 -mamx-tile -mamx-bf16) ;;
    *) able=("-march=$kind") ;;
  esac
  for values in float32 bfloat16; do
    compile kernels "${loose[@]}"
    compile unpack "${exact[@]}"
    case $kind-$values in x86-64-v3-* | x86-64-v4-bfloat16 | armv8-a-*) ;; *) compile flash "${loose[@]}" ;; esac
    # Linked without -fopenmp: its functions are PyTorch's.
    "$compiler" -shared -s -nodefaultlibs "$scratch"/*.o -lm -lc -o "$scratch/kernels.so"
    mv "$scratch/kernels.so" "$folder/kernels-$kind-$values.so"
    rm "$scratch"/*.o
  done
done
