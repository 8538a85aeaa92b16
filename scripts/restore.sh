#!/usr/bin/env bash
# Put a backup in place of the data of a container, a volume or a folder: all of it, or nothing.
#
#   scripts/restore.sh FILE CONTAINER [--replace]   a container; it is stopped for it, and started again if it ran
#   scripts/restore.sh FILE VOLUME [--replace]      a volume; made if there is none of this name
#   scripts/restore.sh FILE DIR [--replace]         a data folder, with the clawlama of this checkout
#
# --replace moves data that is there aside, into a folder replaced-YYYYMMDD-HHMMSS beside the new.
# IMAGE names the image that is used for a volume, and DOCKER the engine's command (docker).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
docker=${DOCKER:-docker}
image=${IMAGE:-ghcr.io/clawlama/clawlama}

fail() {
  echo "restore.sh: $1" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{s/^# \{0,1\}//;/^set /!p;}' "${BASH_SOURCE[0]}"
  exit "${1:-2}"
}

case ${1:-} in -h | --help) usage 0 ;; esac
[ $# -ge 2 ] && [ $# -le 3 ] || usage
file=$1
to=$2
options=("${@:3}")
for option in "${options[@]}"; do
  [ "$option" = --replace ] || fail "unknown option $option; there is --replace"
done
[ -r "$file" ] || fail "$file cannot be read"

if [[ $to == */* || $to == . ]]; then
  exec "${CLAWLAMA:-$here/.venv/bin/clawlama}" restore "$file" --into "$to" "${options[@]}"
fi
if ! "$docker" container inspect "$to" >/dev/null 2>&1; then
  exec "$docker" run --rm -i --network none -v "$to:/data" "$image" restore - "${options[@]}" <"$file"
fi

of_container() { "$docker" container inspect -f "$1" "$to"; }

# Run clawlama once in the container's image, as its user and on its volumes.
beside_container() {
  local line as=()
  while read -r line; do
    case $line in PUID=* | PGID=*) as+=(-e "$line") ;; esac
  done < <(of_container '{{range .Config.Env}}{{println .}}{{end}}')
  line=$(of_container '{{.Config.User}}')
  [ -z "$line" ] || as+=(--user "$line")
  "$docker" run --rm -i --network none --volumes-from "$to" "${as[@]}" "$(of_container '{{.Config.Image}}')" "$@"
}

beside_container verify - <"$file" # before anything is stopped
if [ "$(of_container '{{.State.Running}}')" = true ]; then
  "$docker" stop "$to" >/dev/null
  trap '"$docker" start "$to" >/dev/null && echo "started $to again"' EXIT
fi
beside_container restore - "${options[@]}" <"$file"
