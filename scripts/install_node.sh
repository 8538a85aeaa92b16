#!/usr/bin/env bash
# Install the pinned OpenClaw and the Node that runs it into one folder of the checkout.
#
#   scripts/install_node.sh [FOLDER]        FOLDER defaults to <checkout>/.node
#
# The versions and their checksums are in image/openclaw/. npm is the only thing the machine must have,
# with any Node it came with: the Node that OpenClaw needs is one of the pinned packages.
# No package may run a script of its own, but for OpenClaw: its postinstall prunes stale files and
# completes the package, and OpenClaw refuses to start without it.
# A second run compares one checksum and returns; a run that was cut short leaves the old install alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pins=$here/image/openclaw
target=${1:-$here/.node}

fail() {
  printf 'install_node: %s\n' "$1" >&2
  exit 1
}

case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) platform=linux-x64 ;;
  Linux-aarch64) platform=linux-arm64 ;;
  *) fail "there is no pinned Node for $(uname -s) on $(uname -m); use Linux on x86_64 or aarch64" ;;
esac

wanted="$platform $(cat "$pins/package.json" "$pins/package-lock.json" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)"

installed() {
  [ "$(cat "$target/.installed" 2>/dev/null)" = "$wanted" ] &&
    [ -x "$target/node_modules/.bin/node" ] && [ -x "$target/node_modules/.bin/openclaw" ]
}

installed && exit 0

command -v npm >/dev/null || fail "npm is not on PATH; install it (Debian, Ubuntu: apt-get install npm) and run this again"

# Two installs at once would race for the swap: the second waits here, then finds the work done.
exec 9<"$pins/package-lock.json"
if command -v flock >/dev/null; then flock 9; fi
installed && exit 0

staging=$target/partial
trap 'rm -rf "$staging"' EXIT
rm -rf "$staging"
mkdir -p "$staging"
cp "$pins/package.json" "$pins/package-lock.json" "$staging/"
cd "$staging"

echo "Installing OpenClaw and its Node (once, about 270 MB to download)"
options=(--no-audit --no-fund --no-update-notifier --loglevel=error --include=optional --no-global)
npm ci "${options[@]}" --ignore-scripts || fail "npm could not install the pinned packages; see its message above"

node=$staging/node_modules/node-$platform/bin/node
[ -x "$node" ] || fail "npm left out node-$platform; remove 'omit=optional' from your npm configuration"
export PATH=$staging/node_modules/.bin:$PATH
# npm on an older Node skips optional parts that need a newer one; under the pinned Node it adds them.
npm install "${options[@]}" --ignore-scripts --no-save || fail "npm could not complete the pinned packages; see its message above"
npm rebuild openclaw "${options[@]}" --ignore-scripts=false || fail "OpenClaw's own install step failed; see its message above"
[ ! -e node_modules/openclaw/.openclaw-lifecycle-pending ] || fail "OpenClaw's own install step did not finish"
"$node" node_modules/openclaw/openclaw.mjs --version || fail "the installed OpenClaw does not start"

rm -rf "$target/.installed" "$target/old" "$target/package.json" "$target/package-lock.json"
if [ -e "$target/node_modules" ]; then mv "$target/node_modules" "$target/old"; fi
mv "$staging/node_modules" "$target/node_modules"
printf '%s\n' "$wanted" >"$target/.installed"
rm -rf "$target/old"
