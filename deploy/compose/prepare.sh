#!/bin/sh
# Makes what may not be in the repository: .env with random passwords, and a certificate for the
# dashboard that it signs itself. What is there already is left as it is.
set -eu
cd "$(dirname "$0")"
umask 077
if [ ! -e .env ]; then
    for name in POSTGRES_PASSWORD ORTHANC_PASSWORD GRAFANA_PASSWORD; do
        echo "$name=$(openssl rand -hex 24)"
    done >.env.new
    mv .env.new .env
fi
if [ ! -e secrets/web.pem ]; then
    mkdir -p secrets
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
        -subj "/CN=dicom-node trial" -addext "subjectAltName=DNS:node,DNS:localhost,IP:127.0.0.1" \
        -keyout secrets/web.key -out secrets/web.pem 2>/dev/null
    # the containers' own users read them; on this machine the folder keeps others out
    chmod 644 secrets/web.key secrets/web.pem
fi
echo "the passwords are in $(pwd)/.env"
