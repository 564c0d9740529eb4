#!/bin/sh
# Label Studio takes its secrets from variables. This sets them from the files of `secrets:`, whatever characters they
# hold, and starts what it is given, through the image's own entrypoint.
set -eu
POSTGRE_PASSWORD=$(cat "${SECRETS:-/run/secrets}/postgres_password")
LABEL_STUDIO_PASSWORD=$(cat "${SECRETS:-/run/secrets}/label_studio_password")
LABEL_STUDIO_USER_TOKEN=$(cat "${SECRETS:-/run/secrets}/label_studio_token")
export POSTGRE_PASSWORD LABEL_STUDIO_PASSWORD LABEL_STUDIO_USER_TOKEN
exec "${ENTRYPOINT:-./deploy/docker-entrypoint.sh}" "$@"
