#!/usr/bin/env bash
# Set up what `make run` (run), `make check` (dev), `make test` (test) and `make test-compose` (compose)
# need; again does no harm.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:?run, dev, test or compose}

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }
has() { PATH=$PATH:/usr/sbin:/usr/local/sbin command -v "$1" >/dev/null; }

# Install packages of the distribution, without starting a daemon of theirs: Debian's mosquitto
# would open an anonymous broker on port 1883, at once and at every boot; PostgreSQL likewise.
apt_install() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap "rm -f $policy" EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    say "installing $*"
    apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } >&2
    for daemon in mosquitto postgresql nginx; do
        case " $*" in *" $daemon"*) update-rc.d $daemon disable >/dev/null 2>&1 || true ;; esac
    done
}

# Fetch mosquitto and the libraries that are missing without being root, into .venv/opt.
fetch_mosquitto() {
    local store
    store=$(mktemp -d)
    mkdir "$store/partial"
    if apt-get install -y -q --no-install-recommends --download-only -o Debug::NoLocking=1 \
        -o Dir::Cache="$store" -o Dir::Cache::archives="$store" mosquitto >/dev/null 2>&1; then
        for package in "$store"/*.deb; do dpkg -x "$package" .venv/opt; done
        say "mosquitto lies in .venv/opt, taken from the distribution"
    else
        say "mosquitto is missing and could not be fetched; ask an administrator for:" \
            "apt install mosquitto (without it, set bus.url to a broker that you have)"
    fi
    rm -rf "$store"
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${GLEANER_PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

make_environment() {
    local python
    if [ -x .venv/bin/python ] && is_new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    if ! python=$(find_python); then
        has apt-get && is_root || fail "Python 3.11 or newer is needed: apt install python3.11 python3.11-venv"
        apt_install python3.11 python3.11-venv
        python=python3.11
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        has apt-get && is_root || fail "the module venv is missing: apt install $package"
        apt_install "$package"
    fi
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

# pip refuses --require-hashes together with -e, so: the pins first, then the project alone.
install_packages() {
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "requirements/$1.txt"
    PATH=$PWD/.venv/bin:$PATH .venv/bin/python -m pip install -q --disable-pip-version-check \
        --no-deps --no-build-isolation -e . ||
        fail "the package could not be built, see above. If it was npm: where the npm registry" \
            "cannot be reached, GLEANER_NO_FRONTEND=1 does without the live page"
    # Saves half a second at the first start.
    .venv/bin/python -m compileall -q gleaner services
}

set_up_broker() {
    if has mosquitto || [ -x .venv/opt/usr/sbin/mosquitto ]; then
        return
    fi
    if ! has apt-get; then
        say "mosquitto is missing; install it with this system's package manager"
    elif is_root; then
        apt_install mosquitto
    else
        fetch_mosquitto
    fi
}

# The tests do not do without: what is missing is installed, or this fails.
set_up_test_components() {
    local missing=()
    { has mosquitto && has mosquitto_passwd; } || missing+=(mosquitto)
    has chromium || missing+=(chromium)
    has gcc || missing+=(gcc libc6-dev)
    has dbus-daemon || missing+=(dbus)
    has nginx || missing+=(nginx-light)
    has openssl || missing+=(openssl)
    has setpriv || missing+=(util-linux)
    { has initdb || ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 || missing+=(postgresql)
    if [ ${#missing[@]} = 0 ]; then
        return
    fi
    has apt-get && is_root || fail "the tests need more, as root: apt install ${missing[*]}"
    apt_install "${missing[@]}"
}

# An engine and Compose, and where no engine runs, what makes the base image without a registry.
set_up_engine() {
    local missing=()
    has docker && { docker compose version >/dev/null 2>&1 || has docker-compose; } &&
        docker info >/dev/null 2>&1 && return
    has dockerd || missing+=(docker.io)
    docker compose version >/dev/null 2>&1 || has docker-compose || missing+=(docker-compose)
    has debootstrap || missing+=(debootstrap)
    if [ ${#missing[@]} = 0 ]; then
        return
    fi
    has apt-get && is_root || fail "the tests of the deployment need more, as root: apt install ${missing[*]}"
    apt_install "${missing[@]}"
}

mkdir -p .make
make_environment
case $purpose in
run)
    # Whoever has the tests' environment has everything; it is brought up to date as a whole.
    if [ -e .make/dev ]; then install_packages dev; else install_packages run; fi
    set_up_broker
    ;;
dev) install_packages dev ;;
test) set_up_test_components ;;
compose) set_up_engine ;;
*) fail "run, dev, test or compose?" ;;
esac
touch ".make/$purpose"
