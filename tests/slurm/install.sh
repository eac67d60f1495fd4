#!/usr/bin/env bash
# Install what the tests against a real SLURM need (Debian, Ubuntu), where it is missing.
set -euo pipefail

if command -v slurmctld > /dev/null && command -v slurmd > /dev/null && command -v munged > /dev/null; then
  exit 0
fi
# Services are not started: every test session runs daemons of its own.
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update --quiet --quiet
$as_root apt-get install --yes --quiet --no-install-recommends slurm-wlm munge
