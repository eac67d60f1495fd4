#!/usr/bin/env bash
# Install the browser that the tests of the page drive (Debian), where it is missing.
set -euo pipefail

if command -v chromium > /dev/null && command -v chromedriver > /dev/null; then
  exit 0
fi
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update --quiet --quiet
$as_root apt-get install --yes --quiet --no-install-recommends chromium chromium-driver
