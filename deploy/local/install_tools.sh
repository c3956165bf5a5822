#!/bin/sh
# Install Debian packages that tests need, those that are missing only, and leave no service of theirs running.
# `one|other`: `one` is wanted, `other` will do where `one` can not be had.
set -eu

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # servers lie there, outside an ordinary user's PATH

have() { command -v "$1" >/dev/null 2>&1; }

# Whether each tool is there, itself or one that will do in its place.
suffices() {
    for tool in "$@"; do
        found=""
        for one in $(echo "$tool" | tr '|' ' '); do ! have "$one" || found=yes; done
        [ -n "$found" ] || return 1
    done
}

# The packages to install for the tools named: of `one|other` the first that apt knows, none if that is there already.
packages() {
    for tool in "$@"; do
        for one in $(echo "$tool" | tr '|' ' '); do
            ! have "$one" || break
            if apt-cache show "$one" >/dev/null 2>&1; then
                echo "$one"
                break
            fi
        done
    done
}

# RUNLEVEL=1 keeps Debian from starting the services it installs; where it does so all the same, they are stopped.
install() {
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    $as_root apt-get update -qq || return 1
    wanted=$(packages "$@")
    [ -n "$wanted" ] || return 0
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends $wanted >/dev/null || return 1
    for tool in $wanted; do
        case "$tool" in
            redis-server | nginx) $as_root service "$tool" stop >/dev/null 2>&1 || true ;;
        esac
    done
}

missing=""
for tool in "$@"; do
    have "${tool%%|*}" || missing="$missing $tool"
done
[ -n "$missing" ] || { echo "zimg: all tools are there: $*"; exit 0; }

if have apt-get; then
    echo "zimg: installing$missing"
    # shellcheck disable=SC2086
    install $missing || true
fi
suffices "$@" || { echo "zimg: not everything could be installed; install by hand:$missing" >&2; exit 1; }
