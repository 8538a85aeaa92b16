#!/usr/bin/env bash
# OpenClaw into the current folder, for the target; only its own install step may run (as in scripts/install_node.sh).
set -euo pipefail

case $TARGETARCH in
  amd64) cpu=x64 ;;
  arm64) cpu=arm64 ;;
  *) echo "openclaw: no image is made for $TARGETARCH" >&2; exit 1 ;;
esac
options=(--no-audit --no-fund --no-update-notifier --loglevel=error --include=optional
  --os=linux "--cpu=$cpu" --libc=glibc)

pinned=$(node -p 'require("./package.json").dependencies.openclaw')
if [ "$OPENCLAW_VERSION" = "$pinned" ]; then
  npm ci "${options[@]}" --ignore-scripts
else
  npm install "${options[@]}" --ignore-scripts --save-exact "openclaw@$OPENCLAW_VERSION"
fi
npm rebuild openclaw "${options[@]}" --ignore-scripts=false
if [ -e node_modules/openclaw/.openclaw-lifecycle-pending ]; then
  echo "openclaw: its own install step did not finish" >&2
  exit 1
fi
rm -rf node_modules/node-linux-* node_modules/.bin # the image has Node of its own
"$(dirname "${BASH_SOURCE[0]}")/prune_openclaw.sh" node_modules
