#!/usr/bin/env bash
# Build the image with docker buildx; needs Docker, and Python 3.11 and npm to look up versions.
#
#   scripts/build.sh [TARGET ...]      default, cuda or dev, for this machine, into its Docker
#   scripts/build.sh --push [TARGET]   for every architecture, with provenance and SBOM, to the registry
#   scripts/build.sh --ci              as clawlama:test, from what CI reaches (tests/image/ci.hcl)
#   scripts/build.sh --print [TARGET]  what would be built; builds nothing
#
# IMAGE, VERSION, TAGS, PLATFORMS, NODE_VERSION, OPENCLAW_VERSION, OLLAMA_VERSION and the other variables of
# docker-bake.hcl come from the environment. A version that is not set is the latest, looked up here,
# so that it stands in the labels and an old one is not taken from the cache.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
files=(-f docker-bake.hcl)
options=()
versions=()
mode=load
case ${1:-} in
  --ci | --push) mode=${1#--}; shift ;;
  --print) mode=print; options=(--print); versions=(--pinned); shift ;;
  --help | -h) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
esac

# What CI's machine reaches: its certificates, and the folder of wheels that pip is told of.
ci() {
  files+=(-f tests/image/ci.hcl)
  versions=(--pinned)
  export OLLAMA_VERSION=stand-in
  export NPM_REGISTRY=${NPM_REGISTRY:-$(npm config get registry)}
  local ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
  if [ -f "$ca" ]; then export CA_FILE=${CA_FILE:-$ca}; fi
  local folder
  for folder in ${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}; do
    if compgen -G "$folder/torch-*.whl" >/dev/null; then export CI_WHEELS=${CI_WHEELS:-$folder}; fi
  done
}

case $mode in
  ci) ci ;;
  push) options=(--push) ;;
  load)
    options=(--load --set '*.attest=type=provenance,disabled=true' --set '*.attest=type=sbom,disabled=true')
    export PLATFORMS=${PLATFORMS:-linux/$(docker version --format '{{.Server.Arch}}')}
    ;;
esac

found=$(python3 image/build/resolve.py "${versions[@]}")
while IFS='=' read -r name version; do export "$name=$version"; done <<<"$found"
VERSION=${VERSION:-$(python3 -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')}
REVISION=${REVISION:-$(git rev-parse HEAD 2>/dev/null || true)}
CREATED=${CREATED:-$(git log -1 --format=%cI 2>/dev/null || true)}
export VERSION REVISION CREATED

exec docker buildx bake "${files[@]}" "${options[@]}" "$@"
