#!/usr/bin/env bash
# What training a LoRA on the CPU does not need of PyTorch and its company.
# torch_shm_manager must stay; NumPy's libraries must not be stripped (OpenBLAS breaks).
set -euo pipefail

cd "$1"
rm -rf bin
rm -rf torch/test torch/include torch/share torch/lib/lib*_test.so torch/lib/libbackend_with_compiler.so
rm -rf hf_xet hf_xet-*.dist-info # another way to download from Hugging Face; nothing here does
find torch/bin -type f ! -name torch_shm_manager -delete
find . -name '*.pyi' -type f -delete
find . -type d -name tests -not -path './numpy/_core/*' -prune -exec rm -rf {} +
for library in libtorch_cpu libtorch_python libc10; do strip --strip-unneeded "torch/lib/$library.so"; done

# Compiled is what the supervisor imports too; what only lessons import would be five times that, and they keep their own.
only_lessons='torch|torchgen|functorch|transformers|sympy|networkx|mpmath|numpy|peft|accelerate|setuptools|huggingface_hub'
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x "/site-packages/($only_lessons)/" "$PWD"
