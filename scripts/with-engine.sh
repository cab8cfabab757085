#!/usr/bin/env bash
# Run a command where there is a container engine with the base image of our Dockerfile.
#
# What is there is used as it is. On a Debian machine without a running engine, or without a
# registry of images, as root: `dockerd` is started with folders of its own (and ended again), and a
# stand-in for the image is made once by debootstrap, under the very name that the Dockerfile uses.
set -euo pipefail
cd "$(dirname "$0")/.."
image=debian:bookworm-slim suite=bookworm
home=${GLEANER_ENGINE_DIRECTORY:-/var/tmp/gleaner-engine} # images, and so the builds, are kept here

say() { printf 'engine: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

start_engine() {
    local run=/run/gleaner-engine
    [ "$(id -u)" = 0 ] || fail "no engine answers, and only root can start one"
    command -v dockerd >/dev/null || fail "no engine is installed: apt install docker.io docker-compose"
    mkdir -p "$home" $run
    # Its first line: who runs it. Two would spoil each other's folders.
    exec 9>"$home/lock"
    flock --nonblock 9 || fail "$home is in use by another run"
    say "starting dockerd; its log is $home/dockerd.log"
    export DOCKER_HOST=unix://$run/docker.sock
    setsid dockerd --data-root "$home/data" --exec-root $run/exec --pidfile $run/pid \
        --host "$DOCKER_HOST" >"$home/dockerd.log" 2>&1 9>&- &
    engine=$!
    trap stop_engine EXIT
    for _ in $(seq 150); do
        docker info >/dev/null 2>&1 && return
        kill -0 $engine 2>/dev/null || break
        sleep 0.2
    done
    tail -n 5 "$home/dockerd.log" >&2
    fail "dockerd did not start"
}

stop_engine() {
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    say "dockerd is stopped"
}

# What this machine installs from, below the name of the suite that the image has.
archives() {
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite=$suite 'index($2, suite) == 1 && $3 == "main" && !seen[$0]++'
}

make_image() {
    local root mirror file
    [ "$(id -u)" = 0 ] || fail "there is no image $image, and only root can make a stand-in"
    command -v debootstrap >/dev/null || fail "debootstrap is not installed: apt install debootstrap"
    mirror=$(archives | awk -v suite=$suite '$2 == suite {print $1; exit}')
    [ "$mirror" ] || fail "this machine has no archive of Debian $suite to make $image from"
    mkdir -p "$home"
    root=$(mktemp -d "$home/root.XXXXXX")
    say "making a stand-in for $image by debootstrap (a minute)"
    debootstrap --variant=minbase --include=ca-certificates $suite "$root" "$mirror" \
        >"$home/debootstrap.log" 2>&1 || { tail -n 5 "$home/debootstrap.log" >&2; fail "debootstrap failed"; }
    archives | sed 's/^/deb /' >"$root/etc/apt/sources.list"
    # As the real one: no documentation, no other languages.
    printf 'path-exclude /usr/share/%s/*\n' doc info lintian locale man >"$root/etc/dpkg/dpkg.cfg.d/slim"
    rm -rf "$root"/usr/share/{doc,info,lintian,locale,man}/* "$root"/var/{cache,lib}/apt/* "$root"/var/log/*.log
    # How this machine reaches its package indexes: certificates and configuration.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp -r /usr/local/share/ca-certificates "$root/usr/local/share/"
    for file in /etc/pip.conf /etc/apt/apt.conf.d/99* ~/.pip/pip.conf ~/.config/pip/pip.conf; do
        [ ! -f "$file" ] || install -D -m 644 "$file" "$root$file"
    done
    { cat ~/.npmrc 2>/dev/null; echo cafile=/etc/ssl/certs/ca-certificates.crt; } >"$root/root/.npmrc"
    tar -C "$root" -c . | docker import --change 'CMD ["bash"]' - $image >/dev/null
    rm -rf "$root"
}

docker info >/dev/null 2>&1 || start_engine
docker image inspect $image >/dev/null 2>&1 || timeout 120 docker pull -q $image 2>/dev/null || make_image
"$@"
