#!/usr/bin/env bash
# Node from NodeSource's apt repository: the target's into /out/bin, the builder's with npm into /out/build.
# The key came with a checksum; apt proves the index by the key, and the packages by the index.
set -euo pipefail

cat >/etc/apt/sources.list.d/nodesource.sources <<EOF
Types: deb
URIs: https://deb.nodesource.com/node_${NODE_MAJOR}.x
Suites: nodistro
Components: main
Architectures: $BUILDARCH $TARGETARCH
Signed-By: /usr/share/keyrings/nodesource.asc
EOF
dpkg --add-architecture "$TARGETARCH"
apt-get update -o Dir::Etc::sourcelist=sources.list.d/nodesource.sources -o Dir::Etc::sourceparts=-

wanted=${NODE_VERSION#latest}
fetch() { # ARCHITECTURE
  local folder=/tmp/$1
  mkdir -p "$folder"
  (cd "$folder" && apt-get download "nodejs:$1${wanted:+=$wanted-*}")
  dpkg-deb --extract "$folder"/nodejs_*.deb "$folder"
}
fetch "$TARGETARCH"
[ "$BUILDARCH" = "$TARGETARCH" ] || fetch "$BUILDARCH"

mkdir -p /out/bin /out/build
cp "/tmp/$TARGETARCH/usr/bin/node" /out/bin/
strip --strip-unneeded /out/bin/node
cp -a "/tmp/$BUILDARCH/usr/bin" "/tmp/$BUILDARCH/usr/lib" /out/build/
dpkg-deb --field "$(ls "/tmp/$TARGETARCH"/nodejs_*.deb)" Version | sed 's/-.*//' >/out/version
