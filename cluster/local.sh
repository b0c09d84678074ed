#!/usr/bin/env bash
# A rehearsal cluster on this host: a head and a second node, with token authentication. Ctrl-C ends both.
#
#   bash cluster/local.sh            then, in another shell, what it prints
#   CPUS=4 bash cluster/local.sh     logical CPUs a node; may exceed cores
set -euo pipefail

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
port="${PORT:-6399}" dashboard="${DASHBOARD_PORT:-8265}" cpus="${CPUS:-3}"

if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    (umask 077 && python3 -c "import secrets; print(secrets.token_hex(32), end='')" >"$RAY_AUTH_TOKEN_PATH")
fi

is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for one in "$port" "$dashboard"; do
    if is_taken "$one"; then
        echo "something listens on port $one already; choose others with PORT and DASHBOARD_PORT" >&2
        exit 1
    fi
done

ray start --head --block --port="$port" --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" --num-cpus="$cpus" &
head=$!
# The second node goes first: it tells the head that it leaves.
trap 'kill "${second:-}" 2>/dev/null; wait "${second:-}" 2>/dev/null; kill "$head" 2>/dev/null; wait' EXIT
until is_taken "$dashboard"; do
    if ! kill -0 "$head" 2>/dev/null; then
        echo "the head ended before its dashboard answered on port $dashboard; what it said is above" >&2
        exit 1
    fi
    sleep 1
done
ray start --block --address="127.0.0.1:$port" --num-cpus="$cpus" &
second=$!

cat <<EOF

In another shell:
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH
  dlsvc submit jobs/vision/lenet5-digits.yaml --address http://127.0.0.1:$dashboard --follow
  dlsvc train jobs/vision/lenet5-digits.yaml --address 127.0.0.1:$port
EOF
wait "$head"
