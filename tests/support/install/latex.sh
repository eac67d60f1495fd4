#!/usr/bin/env bash
# Install the LaTeX that the tests of the tables compile with (Debian), where it is missing.
set -euo pipefail

if command -v pdflatex > /dev/null && kpsewhich booktabs.sty > /dev/null; then
  exit 0
fi
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update --quiet --quiet
$as_root apt-get install --yes --quiet --no-install-recommends texlive-latex-base texlive-latex-recommended
