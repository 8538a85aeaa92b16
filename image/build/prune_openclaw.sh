#!/usr/bin/env bash
# What OpenClaw does not need to run: types, source maps, tests, manuals of its dependencies, and twins.
# Its own docs/ and skills/ stay: it reads them. So does the web UI, but for its compressed copies.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$1"
find . -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete
find . -type f -not -path './openclaw/*' \( -iname 'readme*' -o -iname 'changelog*' -o -iname 'history.md' \) -delete
find . -type d \( -name test -o -name tests -o -name __tests__ \) -not -path './openclaw/*' -prune -exec rm -rf {} +
node "$here/control_ui.mjs" openclaw/dist/control-ui
rm -f openclaw/dist/worker/worker.mjs openclaw/dist/worker/sqlite-store.worker.mjs openclaw/CHANGELOG.md
rm -rf @trycua/cua-driver-* # moves the mouse of a desktop; a container has none
