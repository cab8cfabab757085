#!/usr/bin/env bash
# Check the types of the front end with the TypeScript that it was built with.
set -euo pipefail
cd "$(dirname "$0")/.."
source=services/web/frontend
[ -d $source ] || exit 0
if [ "${GLEANER_NO_FRONTEND:-}" = 1 ]; then
    echo "check-front-end: left out, GLEANER_NO_FRONTEND=1" >&2
    exit 0
fi
export PATH=$PWD/.venv/bin:$PATH
[ -d $source/node_modules ] || npm --prefix $source ci --ignore-scripts --no-audit --no-fund
$source/node_modules/.bin/tsc --noEmit --project $source
