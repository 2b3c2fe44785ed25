#!/bin/sh
# Makes the secrets that compose.yaml reads, once: what is there stays. Tokens are made by the program in the image; where it is
# installed, INVENTORYCTL names it instead.
#   sh secrets.sh [DIRECTORY]
set -eu
umask 077

dir=${1:-$(dirname "$0")/secrets}
if [ -e "$dir" ]; then
    echo "$dir is there and stays as it is"
    exit 0
fi
new="$dir.new"
rm -rf "$new"
mkdir "$new"

# 32 hexadecimal digits, which need no escaping in a URL or in SQL.
random() { od -A n -N 16 -t x1 /dev/urandom | tr -d ' \n'; }
put() { printf '%s\n' "$2" > "$new/$1"; }
ctl() {
    if [ -n "${INVENTORYCTL:-}" ]; then "$INVENTORYCTL" "$@"; else
        docker run --rm --network none inventory:0.1.0 /usr/local/bin/inventoryctl "$@"
    fi
}
# The entry of the tokens file goes to stdout, the secret to stderr.
token() {
    ctl token new --name "$2" --scopes "$3" >> "$new/tokens.toml" 2> "$new/said" || { cat "$new/said" >&2; exit 1; }
    put "$1" "$(sed -n 's/^the secret: //p' "$new/said")"
    rm "$new/said"
    test -s "$new/$1"
}

put mysql-root-password "$(random)"
put mysql-users.sql 'CREATE DATABASE inventory CHARACTER SET utf8mb4;'
for program in migrate api worker; do
    password=$(random)
    echo "CREATE USER inventory_$program IDENTIFIED BY '$password';" >> "$new/mysql-users.sql"
    put "mysql-$program-url" "mysql://inventory_$program:$password@mariadb:3306/inventory"
done
# The others' rights are of tables, so they come after the migration.
grep '^GRANT .* TO inventory_migrate;$' "$(dirname "$0")/../grants.sql" >> "$new/mysql-users.sql"
password=$(random)
put redis-auth.conf "requirepass $password"
put redis-url "redis://:$password@redis:6379/0"
put grafana-password "$(random)"
token admin-token operator catalog:read,catalog:write,prices:write,views:write,stock:read,stock:write,reservations:write,metrics:read,admin
token metrics-token prometheus metrics:read

# Docker mounts each file as it is, and those who read it in containers are other users. The directory lets in only you.
chmod 644 "$new"/*
mv "$new" "$dir"
echo "made $dir; give your shop a token of its own:"
echo "  docker compose run --rm --no-TTY ctl token new --name shop --scopes catalog:read,views:write >> $dir/tokens.toml"
