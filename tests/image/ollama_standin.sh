#!/bin/sh
# The tests' stand-in for Ollama as the `ollama` of the image that CI builds.
PYTHONPATH=/usr/local/lib/ollama/standin exec /opt/clawlama/bin/python3 -m tests.image.standin "$@"
