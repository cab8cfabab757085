#!/bin/sh
# Run the broker in its volume, and have it look again when `gleaner enroll` has changed who may
# connect. TERM and INT are passed on.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
volume=${1:-/var/lib/gleaner}
PATH=$PATH:/usr/sbin:/usr/local/sbin

say() { echo "broker: $*" >&2; }

# `generation` is written last: its first word changes with the accounts, which mosquitto reads
# again at a HUP, its second one with the listeners, which it reads at its start only.
look() { read -r accounts listeners 2>/dev/null <generation; }

end() {
    trap '' TERM INT
    : "${broker:=${!:-}}"
    if [ -n "$broker" ]; then
        kill -TERM "$broker" 2>/dev/null
        wait "$broker"
    fi
    rm -f heard
    exit 0
}

cd "$volume" 2>/dev/null || { say "$volume: is the volume mounted?"; exit 1; }
look || { say "$volume is not prepared; \`gleaner prepare\` does that"; exit 1; }
read_at_start=$listeners
known=$accounts
# What the broker knows, for `gleaner enroll` to wait for; there is none when it does not run.
echo "$accounts $listeners" >heard

broker=
trap end TERM INT
# Inherited until mosquitto has its own answer to a HUP, which would end it before.
trap '' HUP
mosquitto -c "$here/mosquitto.conf" &
broker=$!
sleep 1 &
wait $!
while kill -0 "$broker" 2>/dev/null; do
    if look; then
        if [ "$listeners" != "$read_at_start" ]; then
            say "the listeners have changed: starting again"
            kill -TERM "$broker"
            wait "$broker"
            exec "$here/start.sh" .
        fi
        [ "$accounts" = "$known" ] || kill -HUP "$broker"
        known=$accounts
        echo "$accounts $listeners" >heard
    fi
    sleep 1 &
    wait $!
done
wait "$broker"
status=$?
rm -f heard
say "mosquitto ended with status $status"
if [ "$status" = 1 ]; then
    ports=$(sed -n 's/^listener \([0-9]*\).*/\1/p' listeners.conf | tr '\n' ' ')
    say "it says why above; if an address is in use, another program has one of the ports $ports"
fi
exit "$status"
