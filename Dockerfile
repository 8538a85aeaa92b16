# The image, from what changes least to what changes most. Built by docker-bake.hcl (scripts/build.sh).
#
# What comes from outside is a stage of its own, with a name that a bake file can replace: node-dist, ollama-dist, wheels.
# Every stage but the final ones runs on the builder's own architecture, whatever it builds for: only apt is emulated.
ARG DEBIAN_IMAGE=debian:bookworm-slim

# --- tools: what the other stages work with; nothing of it is in the image
# hadolint ignore=DL3029
FROM --platform=$BUILDPLATFORM ${DEBIAN_IMAGE} AS tools
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked <<'EOF'
rm -f /etc/apt/apt.conf.d/docker-clean
apt-get update
apt-get install -y --no-install-recommends binutils-multiarch ca-certificates curl python3 python3-pip zstd
EOF

ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# --- node-dist: /bin/node for the target, /build for the stage openclaw (Node and npm that run here), /version
FROM tools AS node-fetch
ARG NODE_MAJOR=24
ARG NODE_VERSION=latest
ARG NODESOURCE_SHA256=7a96b125f721c99e07d3f45b279adbd6884ec4f3f06750f6b54df40cfae36836
ARG BUILDARCH
ARG TARGETARCH
ADD --checksum=sha256:${NODESOURCE_SHA256} --chmod=644 https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key /usr/share/keyrings/nodesource.asc
RUN --mount=type=bind,source=image/build/node.sh,target=/steps/node.sh \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /steps/node.sh

FROM scratch AS node-dist
COPY --from=node-fetch /out /

# --- ollama-dist: /bin/ollama, /lib/ollama (llama-server and the CPU libraries), /version, and /packs: descriptions of
# the GPU packs with the release's checksums
FROM tools AS ollama-fetch
ARG OLLAMA_VERSION=latest
ARG TARGETARCH
RUN --mount=type=bind,source=image/build/ollama.sh,target=/steps/ollama.sh \
    --mount=type=bind,source=image/build/pin_ollama.py,target=/steps/pin_ollama.py \
    --mount=type=bind,source=image/packs,target=/packs \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /steps/ollama.sh

FROM scratch AS ollama-dist
COPY --from=ollama-fetch /out /

# --- openclaw: by npm. The pinned version is installed from the lock file, another one as npm resolves it.
FROM tools AS openclaw
COPY --from=node-dist /build /usr/local
ARG OPENCLAW_VERSION=latest
ARG TARGETARCH
WORKDIR /opt/openclaw
COPY image/openclaw/package.json image/openclaw/package-lock.json ./
RUN --mount=type=cache,target=/root/.npm --mount=type=bind,source=image/build/openclaw.sh,target=/steps/openclaw.sh \
    --mount=type=bind,source=image/build/prune_openclaw.sh,target=/steps/prune_openclaw.sh \
    --mount=type=bind,source=image/build/control_ui.mjs,target=/steps/control_ui.mjs \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /steps/openclaw.sh

# --- pins: which Python packages, read from pyproject.toml; later stages depend on their lines only
FROM tools AS pins
WORKDIR /pins
COPY pyproject.toml image/build/pins.py ./
RUN python3 pins.py pyproject.toml .

# --- wheels: PyTorch for the CPU, which only PyTorch's own index has for every architecture
FROM tools AS wheels-fetch
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG TARGETARCH
COPY constraints.txt /pins/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=image/build/pip.sh,target=/steps/pip.sh \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    /steps/pip.sh download --no-deps --index-url "$TORCH_INDEX_URL" --constraint /pins/constraints.txt --dest /out torch

FROM scratch AS wheels
COPY --from=wheels-fetch /out /

# --- ml: a virtual environment with what lessons need. venv: what it gains by what serving needs.
FROM tools AS ml
ARG TARGETARCH
RUN python3 -m venv --without-pip /opt/clawlama
COPY --from=pins /pins/ml.txt /pins/
COPY constraints.txt /pins/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=image/build/pip.sh,target=/steps/pip.sh \
    --mount=type=bind,source=image/build/prune_ml.sh,target=/steps/prune_ml.sh \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false <<'EOF'
/steps/pip.sh install --find-links /wheels --constraint /pins/constraints.txt --requirement /pins/ml.txt
/steps/prune_ml.sh /opt/clawlama/lib/python3.11/site-packages
EOF

FROM ml AS venv
COPY --from=pins /pins/serve.txt /pins/
WORKDIR /opt/clawlama/lib/python3.11/site-packages
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=image/build/pip.sh,target=/steps/pip.sh \
    --mount=type=bind,source=image/build/prune_serve.sh,target=/steps/prune_serve.sh \
    --mount=type=bind,from=ml,source=/opt/clawlama/lib/python3.11/site-packages,target=/ml \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false <<'EOF'
/steps/pip.sh install --constraint /pins/constraints.txt --requirement /pins/serve.txt
/steps/prune_serve.sh /ml
EOF

# --- app: our own wheel
FROM tools AS app
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY templates templates
COPY image/openclaw-plugin image/openclaw-plugin
COPY image/packs image/packs
COPY supervisor supervisor
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false <<'EOF'
pip wheel --quiet --no-deps --wheel-dir /wheels .
pip install --quiet --no-deps --no-compile --target /out/opt/clawlama/lib/python3.11/site-packages /wheels/*.whl
rm -r /out/opt/clawlama/lib/python3.11/site-packages/bin
python3 -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)' \
    >/out/opt/clawlama/lib/python3.11/site-packages/supervisor/_packs/package-index
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /out /out
EOF

# --- kernels: the compiled part of lessons, for the target
FROM tools AS kernels
ARG TARGETARCH
ARG BUILDARCH
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt/lists,sharing=locked <<'EOF'
case $TARGETARCH in amd64) name=x86-64 ;; arm64) name=aarch64 ;; esac
if [ "$TARGETARCH" = "$BUILDARCH" ]; then compiler=g++; else compiler=g++-$name-linux-gnu; fi
apt-get install -y --no-install-recommends "$compiler"
EOF

COPY scripts/kernels.sh /src/scripts/
COPY supervisor/distill/fast/*.cpp supervisor/distill/fast/*.h /src/supervisor/distill/fast/
RUN <<'EOF'
folder=/out/opt/clawlama/lib/python3.11/site-packages/supervisor/distill/fast
mkdir -p "$folder"
case $TARGETARCH in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
/src/scripts/kernels.sh "$machine" "$folder"
EOF

# --- versions: what is in the image, read from what is in the image
FROM tools AS versions
COPY --from=node-dist /version /from/node
COPY --from=ollama-dist /version /from/ollama
COPY --from=openclaw /opt/openclaw/node_modules/openclaw/package.json /from/openclaw.json
COPY --from=ml /opt/clawlama/lib/python3.11/site-packages /from/ml
COPY --from=venv /opt/clawlama/lib/python3.11/site-packages /from/venv
COPY --from=app /out/opt/clawlama/lib/python3.11/site-packages /from/app
RUN --mount=type=bind,source=image/build/versions.py,target=/versions.py python3 /versions.py /from /out/versions.json

# --- clawlama: the image
# hadolint ignore=DL3006
FROM ${DEBIAN_IMAGE} AS clawlama
ARG TARGETARCH
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN --mount=type=cache,id=apt-${TARGETARCH},target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=apt-lists-${TARGETARCH},target=/var/lib/apt/lists,sharing=locked \
    --mount=type=tmpfs,target=/var/log --mount=type=tmpfs,target=/var/cache/debconf <<'EOF'
rm -f /etc/apt/apt.conf.d/docker-clean
apt-get update
apt-get install -y --no-install-recommends ca-certificates libgomp1 python3 tini tzdata
groupadd --gid 1000 clawlama
useradd --uid 1000 --gid 1000 --home-dir /data/home --no-create-home --shell /bin/bash clawlama
install -d -o 1000 -g 1000 -m 1777 /data
find / -xdev -perm /6000 -type f -exec chmod a-s {} +
EOF

COPY --link --from=ml /opt/clawlama /opt/clawlama
COPY --link --from=node-dist /bin/node /usr/local/bin/node
COPY --link --from=ollama-dist /bin/ /usr/local/bin/
COPY --link --from=ollama-dist /lib/ /usr/local/lib/
COPY --link --from=openclaw /opt/openclaw /opt/openclaw
COPY --link --from=venv /opt/clawlama/lib/python3.11/site-packages /opt/clawlama/lib/python3.11/site-packages
COPY --link image/rootfs /
COPY --link --from=versions /out/versions.json /usr/share/clawlama/versions.json
COPY --link --from=kernels /out /
COPY --link --from=app /out /
COPY --link --from=ollama-dist /packs/ /opt/clawlama/lib/python3.11/site-packages/supervisor/_packs/

ENV PATH=/usr/local/bin:/usr/bin:/bin \
    HOME=/data/home \
    LANG=C.UTF-8 \
    PUID=1000 \
    PGID=1000 \
    CLAWLAMA_DATA=/data \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CLAWLAMA_ENGINE=ollama \
    CLAWLAMA_LOG_FORMAT=text \
    CLAWLAMA_API_HOST=0.0.0.0 \
    CLAWLAMA_OPENCLAW_BIND=lan \
    CLAWLAMA_NODE_PREFIX=/opt/openclaw
USER 1000:1000
VOLUME /data
EXPOSE 18789 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=8s --timeout=5s --start-period=30s --retries=2 CMD ["/usr/local/bin/healthcheck"]
# 143: stopped before our own handler is there; that is a stop like any other.
ENTRYPOINT ["tini", "-s", "-e", "143", "--", "clawlama"]
CMD ["up"]

# --- cuda: the same with the packs for NVIDIA GPUs; the other one downloads what it needs when it finds a GPU
FROM clawlama AS cuda-packs
# hadolint ignore=DL3002
USER 0:0
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false <<'EOF'
unset PUID PGID
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
for pack in ollama-cuda12 ollama-cuda13 torch-cuda; do clawlama packs install "$pack" --into /opt/clawlama/packs; done
rm -rf /opt/clawlama/packs/downloads /opt/clawlama/packs/lock
chmod -R a+rX /opt/clawlama/packs
EOF

FROM clawlama AS cuda
COPY --link --from=cuda-packs /opt/clawlama/packs /opt/clawlama/packs

# --- dev: the same with the tests' tools and a shell; the checkout is mounted on /src and comes before what is installed
FROM tools AS dev-tools
ARG TARGETARCH
COPY --from=pins /pins/dev.txt /pins/
COPY constraints.txt /pins/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=image/build/pip.sh,target=/steps/pip.sh \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    SITE=/opt/dev /steps/pip.sh install --constraint /pins/constraints.txt --requirement /pins/dev.txt

FROM clawlama AS dev
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY --link --from=dev-tools /opt/dev /opt/dev
ENV PATH=/opt/clawlama/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/src:/opt/dev
USER 1000:1000
WORKDIR /src
HEALTHCHECK NONE
ENTRYPOINT ["tini", "-s", "--"]
CMD ["bash"]
