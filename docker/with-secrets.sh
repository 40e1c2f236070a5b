#!/bin/sh
# Starts a program with the secrets that are mounted as files named like variables: /run/secrets/PGPASSWORD becomes $PGPASSWORD.
# Everyone on a machine can list the arguments of a program; its environment only the same user can.
set -eu
for file in "${LOBE_SECRETS:-/run/secrets}"/*; do
    name=${file##*/}
    case $name in
        *[!A-Z0-9_]* | [0-9]*) continue ;; # not a variable's name, as is `*` where there is none
    esac
    value=$(cat "$file")
    export "$name=$value"
done
exec "$@"
