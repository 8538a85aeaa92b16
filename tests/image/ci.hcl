# What CI builds: the same Dockerfile, with what only the internet has replaced by what every CI reaches.
#
#   docker buildx bake -f docker-bake.hcl -f tests/image/ci.hcl default
#
# node-dist     Node and npm from npm's registry instead of NodeSource's apt repository
# ollama-dist   the tests' stand-in for Ollama instead of a release: it serves with the image's own Python, and
#               pulls from a registry of its own in the image
# wheels        PyTorch's wheel from a folder of this machine, if CI_WHEELS names one

variable "CI_WHEELS" { default = "" }
variable "NPM_REGISTRY" { default = "" }
variable "CI_IMAGE" { default = "clawlama:test" }

target "tools" {
  inherits  = ["_common"]
  target    = "tools"
  platforms = []
  attest    = ["type=provenance,disabled=true", "type=sbom,disabled=true"]
}

target "ci-node" {
  inherits   = ["tools"]
  dockerfile = "tests/image/ci.Dockerfile"
  target     = "node-dist"
  args       = { NPM_REGISTRY = NPM_REGISTRY }
  contexts   = { tools = "target:tools" }
}

target "ci-ollama" {
  inherits   = ["tools"]
  dockerfile = "tests/image/ci.Dockerfile"
  target     = "ollama-dist"
  contexts   = { tools = "target:tools" }
}

target "_common" {
  platforms = []
  attest    = ["type=provenance,disabled=true", "type=sbom,disabled=true"]
}

function "replaced" {
  params = []
  result = merge(
    { node-dist = "target:ci-node", ollama-dist = "target:ci-ollama" },
    CI_WHEELS == "" ? {} : { wheels = CI_WHEELS },
  )
}

target "default" {
  contexts = replaced()
  tags     = [CI_IMAGE]
  output   = ["type=docker"]
}

target "dev" {
  contexts = replaced()
  tags     = ["${CI_IMAGE}-dev"]
  output   = ["type=docker"]
}
