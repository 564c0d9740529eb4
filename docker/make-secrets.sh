#!/bin/sh
# Makes the secrets that compose.yaml names, each in a file of its own in ./secrets. Files that are there stay.
set -eu
umask 077
mkdir -p secrets
for name in postgres_password label_studio_password label_studio_token webhook_secret basic_auth_pass; do
    [ -s "secrets/$name" ] || python3 -c 'import secrets; print(secrets.token_hex(20))' >"secrets/$name"
    # Readable in the containers, which run as other users; the folder keeps everybody else on this machine out.
    chmod 644 "secrets/$name"
done
chmod 700 secrets
echo "The secrets are in $(pwd)/secrets. People log in to Label Studio with secrets/label_studio_password."
