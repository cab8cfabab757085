#!/bin/sh
# Whether the broker answers: it refuses who has no account, and says so.
volume=${1:-/var/lib/gleaner}
set --
if grep -q '^certfile ' "$volume/listeners.conf"; then
    set -- --cafile "$volume/certificates/ca.pem"
    if [ ! -e "$volume/certificates/ca.pem" ]; then
        # An authority that systems know, but not this container: only whether somebody listens.
        exec timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/1883'
    fi
fi
said=$(timeout 5 mosquitto_pub -h 127.0.0.1 -p 1883 "$@" -i health -t health -n 2>&1)
case $said in
*"not authori"*) echo "the broker answers" ;;
*) echo "the broker does not answer: $said" && exit 1 ;;
esac
