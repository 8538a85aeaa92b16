# What can be built:  docker buildx bake -f docker-bake.hcl [default|cuda|dev]
#
# scripts/build.sh calls this with exact versions, so that labels and cache know them; `latest` works by itself too.
# Always with -f: beside a compose file, a bare `bake` would read that one.

variable "IMAGE" { default = "ghcr.io/clawlama/clawlama" }
variable "VERSION" { default = "0.0.0-dev" }
variable "REVISION" { default = "" }
variable "CREATED" { default = "" }
variable "PLATFORMS" { default = "linux/amd64,linux/arm64" }

variable "DEBIAN_IMAGE" { default = "debian:bookworm-slim" }
variable "NODE_MAJOR" { default = "24" }
variable "NODE_VERSION" { default = "latest" }
variable "OPENCLAW_VERSION" { default = "latest" }
variable "OLLAMA_VERSION" { default = "latest" }
variable "TORCH_INDEX_URL" { default = "https://download.pytorch.org/whl/cpu" }

# Tags beside the version, comma separated: a release has several. `latest` of another target is its name: `cuda`.
variable "TAGS" { default = "" }

# CA certificates of a proxy that looks into TLS; empty: none.
variable "CA_FILE" { default = "" }

function "tags" {
  params = [suffix]
  result = concat(
    ["${IMAGE}:${VERSION}${suffix}"],
    [for tag in compact(split(",", TAGS)) : "${IMAGE}:${tag == "latest" && suffix != "" ? trimprefix(suffix, "-") : "${tag}${suffix}"}"],
  )
}

target "_common" {
  context    = "."
  dockerfile = "Dockerfile"
  platforms  = split(",", PLATFORMS)
  args = {
    DEBIAN_IMAGE     = DEBIAN_IMAGE
    NODE_MAJOR       = NODE_MAJOR
    NODE_VERSION     = NODE_VERSION
    OPENCLAW_VERSION = OPENCLAW_VERSION
    OLLAMA_VERSION   = OLLAMA_VERSION
    TORCH_INDEX_URL  = TORCH_INDEX_URL
  }
  secret = CA_FILE == "" ? [] : ["id=ca,src=${CA_FILE}"]
  labels = {
    "org.opencontainers.image.title"         = "ClawLama"
    "org.opencontainers.image.description"   = "A private assistant that learns from what you tell it"
    "org.opencontainers.image.url"           = "https://github.com/clawlama/clawlama"
    "org.opencontainers.image.source"        = "https://github.com/clawlama/clawlama"
    "org.opencontainers.image.documentation" = "https://github.com/clawlama/clawlama#readme"
    "org.opencontainers.image.licenses"      = "MIT"
    "org.opencontainers.image.base.name"     = DEBIAN_IMAGE
    "org.opencontainers.image.version"       = VERSION
    "org.opencontainers.image.revision"      = REVISION
    "org.opencontainers.image.created"       = CREATED
    "io.clawlama.openclaw.version"           = OPENCLAW_VERSION
    "io.clawlama.node.version"               = NODE_VERSION
    "io.clawlama.ollama.version"             = OLLAMA_VERSION
  }
  attest = ["type=provenance,mode=max", "type=sbom"]
}

# For the CPU; a GPU's libraries come into /data when there is a GPU.
target "default" {
  inherits = ["_common"]
  target   = "clawlama"
  tags     = tags("")
}

# The same with the libraries for NVIDIA GPUs in it.
target "cuda" {
  inherits = ["_common"]
  target   = "cuda"
  tags     = tags("-cuda")
}

# The same with the tests' tools and a shell; the checkout is mounted on /src.
target "dev" {
  inherits = ["_common"]
  target   = "dev"
  tags     = tags("-dev")
}
