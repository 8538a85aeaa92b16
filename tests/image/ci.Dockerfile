# Stands in for two stages of the image's Dockerfile; tests/image/ci.hcl says why.

# hadolint ignore=DL3006
FROM tools AS node-fetch
ARG NPM_REGISTRY
ARG NPM_VERSION=11.6.2
ARG NPM_INTEGRITY=sha512-7iKzNfy8lWYs3zq4oFPa8EXZz5xt9gQNKJZau3B1ErLBb6bF7sBJ00x09485DOvRT2l5Gerbl3VlZNT57MxJVA==
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /fetch
COPY image/openclaw/package-lock.json tests/image/npm_tarball.py tests/image/fetch_node.sh ./
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false ./fetch_node.sh

FROM scratch AS node-dist
COPY --from=node-fetch /out /

# hadolint ignore=DL3006
FROM tools AS ollama-fetch
COPY tests/__init__.py /out/lib/ollama/standin/tests/__init__.py
COPY tests/fakes /out/lib/ollama/standin/tests/fakes
COPY tests/image/__init__.py tests/image/standin.py /out/lib/ollama/standin/tests/image/
COPY --chmod=755 tests/image/ollama_standin.sh /out/bin/ollama
RUN printf 'stand-in\n' >/out/version && mkdir /out/packs

FROM scratch AS ollama-dist
COPY --from=ollama-fetch /out /
