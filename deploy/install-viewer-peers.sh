#!/bin/sh
# Fetches from npm what the tests read our results with: OHIF as npm ships it, built, and the
# libraries by which it reads reports, in the versions of the lock file. Does nothing when they
# are there.
set -eu
cd "$(dirname "$0")/../tests/peers/js"
ohif=3.12.10
sha512=d24b85eba32af5cf5d303fbe6d4b138ccac9a57270699873f41e2e4b6e380dac008d2913c0860553dde9c4fb915108b16918bb4001e517715ed6ab9d06566b98

if [ ! -e node_modules/.package-lock.json ] ||
    [ package-lock.json -nt node_modules/.package-lock.json ]; then
    echo "installing the viewers' libraries from npm"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
    touch node_modules/.package-lock.json
fi

[ "$(cat ohif/version 2>/dev/null)" = "$ohif" ] && exit 0
echo "unpacking OHIF $ohif from npm"
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
npm pack "@ohif/app@$ohif" --pack-destination "$packed" --loglevel=error >/dev/null
echo "$sha512  $packed/ohif-app-$ohif.tgz" | sha512sum --check --quiet
rm -rf ohif
mkdir ohif
# without what only developers (maps) and other uses (drawing by neural networks) need
tar xzf "$packed/ohif-app-$ohif.tgz" -C ohif --strip-components=2 \
    --exclude='*.map' --exclude='package/dist/ort' package/dist
echo "$ohif" >ohif/version
