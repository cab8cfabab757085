#!/bin/sh
# Whether the broker answers: it refuses who has no account, and says so.
volume=${1:-/var/lib/gleaner}
set --
if grep -q '^certfile ' "$volume/listeners.conf"; then
    set -- --cafile "$volume/certificates/server.pem"
fi
said=$(timeout 5 mosquitto_pub -h 127.0.0.1 -p 1883 "$@" -i health -t health -n 2>&1)
case $said in
# Over TLS it is we who do not trust the certificate; a broker that hangs would not have shown one.
*"not authori"* | *"certificate verify failed"*) echo "the broker answers" ;;
*) echo "the broker does not answer: $said" && exit 1 ;;
esac
