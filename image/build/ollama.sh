#!/usr/bin/env bash
# Ollama's release archive for the target: checked against the release's list of checksums, without GPU libraries.
# In lib/ollama, llama-server and the CPU libraries lie side by side; each GPU kind has a folder of its own.
set -euo pipefail

releases=${OLLAMA_RELEASES:-https://github.com/ollama/ollama/releases}
out=${OUT:-/out}
packs=${PACKS:-/packs}
steps=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${OLLAMA_VERSION#v}
if [ "$version" = latest ]; then
  version=$(curl -fsS --retry 5 -o /dev/null -w '%{redirect_url}' "$releases/latest")
  version=${version##*/v}
fi
work=$(mktemp -d)
cd "$work"
curl -fsSL --retry 5 -O "$releases/download/v$version/sha256sum.txt"

for archive in "ollama-linux-$TARGETARCH.tar.zst" "ollama-linux-$TARGETARCH.tgz" none; do
  line=$(awk -v name="$archive" '{ sub(/^[*]?(\.\/)?/, "", $2) } $2 == name { print $1 "  " $2 }' sha256sum.txt)
  [ -z "$line" ] || break
done
if [ "$archive" = none ]; then
  echo "ollama: release $version lists no archive for linux-$TARGETARCH" >&2
  exit 1
fi
curl -fsSL --retry 5 -O "$releases/download/v$version/$archive"
printf '%s\n' "$line" | sha256sum --check --strict

mkdir -p unpacked "$out/bin" "$out/lib/ollama"
tar --extract --auto-compress --file "$archive" --directory unpacked --exclude 'lib/ollama/*/*' --no-same-owner
cp unpacked/bin/ollama "$out/bin/"
find unpacked/lib/ollama -maxdepth 1 ! -type d -exec cp -a -t "$out/lib/ollama" {} +
[ -x "$out/lib/ollama/llama-server" ] || { echo "ollama: release $version has no lib/ollama/llama-server" >&2; exit 1; }
python3 "$steps/pin_ollama.py" "$packs" "$version" sha256sum.txt "$archive" "$out/packs"
printf '%s\n' "$version" >"$out/version"
