#!/usr/bin/env bash
# Save everything worth keeping into one file on this machine, and check it.
#
#   scripts/backup.sh CONTAINER [FILE] [--models] [--logs]   a container, running or stopped
#   scripts/backup.sh VOLUME [FILE] …                        a volume that no container needs to be made for
#   scripts/backup.sh DIR [FILE] …                           a data folder, with the clawlama of this checkout
#
# FILE: clawlama-YYYYMMDD-HHMMSS.tar.zst in this folder unless given; an existing one is never overwritten.
# IMAGE names the image that is used for a volume, and DOCKER the engine's command (docker).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
docker=${DOCKER:-docker}
image=${IMAGE:-ghcr.io/clawlama/clawlama}

fail() {
  echo "backup.sh: $1" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{s/^# \{0,1\}//;/^set /!p;}' "${BASH_SOURCE[0]}"
  exit "${1:-2}"
}

[ $# -ge 1 ] || usage
case $1 in -h | --help) usage 0 ;; esac
from=$1
shift
file=
options=()
for argument in "$@"; do
  case $argument in
    --models | --logs) options+=("$argument") ;;
    -*) fail "unknown option $argument; there are --models and --logs" ;;
    *) file=$argument ;;
  esac
done
name=clawlama-$(date -u +%Y%m%d-%H%M%S).tar.zst
file=${file:-$name}
[ ! -d "$file" ] || file=$file/$name
[ ! -e "$file" ] || fail "$file exists already and is never overwritten"

is_container() { "$docker" container inspect "$from" >/dev/null 2>&1; }

of_container() { "$docker" container inspect -f "$1" "$from"; }

# Run clawlama once in a container's image, as its user and on its volumes.
beside_container() {
  local line as=()
  while read -r line; do
    case $line in PUID=* | PGID=*) as+=(-e "$line") ;; esac
  done < <(of_container '{{range .Config.Env}}{{println .}}{{end}}')
  line=$(of_container '{{.Config.User}}')
  [ -z "$line" ] || as+=(--user "$line")
  "$docker" run --rm -i --network none --volumes-from "$from" "${as[@]}" "$(of_container '{{.Config.Image}}')" "$@"
}

run() {
  if [[ $from == */* || $from == . ]]; then
    CLAWLAMA_DATA=$from "${CLAWLAMA:-$here/.venv/bin/clawlama}" "$@"
  elif is_container && [ "$(of_container '{{.State.Running}}')" = true ]; then
    "$docker" exec -i "$from" clawlama "$@"
  elif is_container; then
    beside_container "$@"
  elif "$docker" volume inspect "$from" >/dev/null 2>&1; then
    "$docker" run --rm -i --network none -v "$from:/data" "$image" "$@"
  else
    fail "$from is neither a folder nor a container nor a volume"
  fi
}

umask 077 # chats and tokens are in it
part=$(mktemp "$(dirname "$file")/.$(basename "$file").XXXXXX.part")
trap 'rm -f "$part"' EXIT
run backup - "${options[@]}" >"$part" </dev/null
run verify - <"$part"
sync "$part"
ln "$part" "$file" 2>/dev/null || { [ ! -e "$file" ] && mv "$part" "$file"; } || fail "$file exists by now and is never overwritten"
echo "$file"
