#!/usr/bin/env bash
# Install what the tests against a real SLURM need (Debian, Ubuntu), where it is missing.
set -euo pipefail

# Daemons may lie where only the administrator's PATH looks.
PATH=$PATH:/usr/sbin:/usr/local/sbin
missing=$(for program in slurmctld slurmd munged slurmdbd mariadbd; do command -v $program > /dev/null || echo $program; done)
if [ -z "$missing" ]; then
  exit 0
fi
# Every test session runs daemons of its own. SLURM's services do not start as they are installed, for want of settings,
# and the core of MariaDB's server has none.
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update --quiet --quiet
$as_root apt-get install --yes --quiet --no-install-recommends slurm-wlm munge slurmdbd mariadb-server-core
