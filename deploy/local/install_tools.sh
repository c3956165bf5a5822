#!/bin/sh
# Install Debian packages that tests need, those that are missing only, and leave no service of theirs running.
set -eu

missing=""
for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -n "$missing" ] || { echo "zimg: all tools are there: $*"; exit 0; }

command -v apt-get >/dev/null 2>&1 || { echo "zimg: no apt-get here; install by hand:$missing" >&2; exit 1; }
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"

echo "zimg: installing$missing"
$as_root apt-get update -qq
# RUNLEVEL=1 keeps Debian from starting the services it installs; where it does so all the same, they are stopped.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing >/dev/null
for tool in $missing; do
    case "$tool" in
        redis-server | nginx) $as_root service "$tool" stop >/dev/null 2>&1 || true ;;
    esac
done
