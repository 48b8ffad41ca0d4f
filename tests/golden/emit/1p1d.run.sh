#!/usr/bin/env bash
# Deployment vllm-separate-1p1d-tiny (d1-0123456789abcdef), started by hand on this machine.
#
#   ./run.sh [RESULTS_DIR]
#
# Starts every process in order, waits until the deployment is ready, runs the load of every point, stops
# everything. Written by servix, which does not use it: no result is judged or stored here.

# Arguments hold what they hold; a plan does not have to use every name; functions run from traps and by name.
# shellcheck disable=SC2016,SC2034,SC2317

set -euo pipefail
unset CDPATH

# --- names that are known only here ---

# The checkout: SERVIX_DIR, else the nearest folder above this file that holds run.py.
SERVIX_DIR=${SERVIX_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)}
while [[ -n $SERVIX_DIR && ! -f $SERVIX_DIR/run.py ]]; do SERVIX_DIR=${SERVIX_DIR%/*}; done
[[ -n $SERVIX_DIR ]] || { echo 'run.sh: no run.py above this file; set SERVIX_DIR to the checkout' >&2; exit 2; }
export PATH=$SERVIX_DIR/.venv/bin:$PATH
command -v curl >/dev/null || { echo 'run.sh: curl is not installed' >&2; exit 2; }

mkdir -p -- "${1:-results}/logs"
STACK_DIR=$(cd -- "${1:-results}" && pwd)
RESULTS_DIR=$STACK_DIR
STORAGE_CACHE_DIR=${STORAGE_CACHE_DIR:-$STACK_DIR/storage_cache}

# One loopback address per node, so that two nodes can use the same ports.
NODE_0=127.0.0.1
NODE_1=127.0.0.2
FRONTEND_NODE=$NODE_0
FRONTEND_IP=$FRONTEND_NODE

# --- starting and stopping ---

declare -A NAMES=() SIGNALS=()
STATUS=0

# A command comes as `env --default-signal NAME=value ... setsid words`: bash starts what is in the background with
# SIGINT ignored, and a process group of its own can be stopped whole.
start() { # name signal folder command...
    local name=$1 signal=$2 folder=$3
    shift 3
    echo "start $name"
    (cd -- "$STACK_DIR" && mkdir -p -- "$folder" && cd -- "$folder" && exec "$@") \
        >"$STACK_DIR/logs/$name.log" 2>&1 &
    NAMES[$!]=$name SIGNALS[$!]=$signal
}

warn() {
    echo "run.sh: $1" >&2
    STATUS=3
}

fail() {
    warn "$1"
    exit 3
}

alive() { # ends the script when a process has ended
    local pid
    for pid in "${!NAMES[@]}"; do
        kill -0 "$pid" 2>/dev/null && continue
        tail -n 20 -- "$STACK_DIR/logs/${NAMES[$pid]}.log" >&2
        fail "${NAMES[$pid]} has ended"
    done
}

stop() {
    local pid end=$((SECONDS + 10))
    trap '' HUP INT TERM
    for pid in "${!NAMES[@]}"; do
        kill -s "${SIGNALS[$pid]}" -- "-$pid" 2>/dev/null || kill -s "${SIGNALS[$pid]}" "$pid" 2>/dev/null || true
    done
    for pid in "${!NAMES[@]}"; do
        while kill -0 -- "-$pid" 2>/dev/null && ((SECONDS < end)); do sleep 0.1; done
        kill -s KILL -- "-$pid" 2>/dev/null || true
    done
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- probes ---

wait_for() { # what probe...: polls until the probe sees it; DEADLINE is in seconds of this script
    local what=$1
    shift
    echo "wait for $what"
    until "$@" 2>/dev/null; do
        alive
        ((SECONDS < DEADLINE)) || fail "$what: not seen in time"
        sleep 0.2
    done
}

fetch() { curl --silent --noproxy '*' --globoff --max-time 30 "$@"; }

seen_http() { [[ $(fetch --output /dev/null --write-out '%{http_code}' -- "$1") == 200 ]]; }

seen_instances() { # url component=count...: exactly so many instances that generate
    fetch --fail -- "$1" | python -c '
import collections, json, sys
instances = json.load(sys.stdin)["instances"]
seen = collections.Counter(one["component"] for one in instances if one["endpoint"] == "generate")
sys.exit(any(seen[name] != int(count) for name, _, count in (word.rpartition("=") for word in sys.argv[1:])))
' "${@:2}"
}

seen_model() { # url model
    fetch --fail -- "$1" | python -c '
import json, sys
sys.exit(sys.argv[1] not in [model["id"] for model in json.load(sys.stdin)["data"]])
' "$2"
}

seen_completion() { # url request
    fetch --fail --header 'Content-Type: application/json' --data "$2" -- "$1" | python -c '
import json, sys
sys.exit(not json.load(sys.stdin)["choices"])
'
}

# --- load ---

load() { # command...: the load generator, watched together with the deployment
    local generator ended='' status=0
    (cd -- "$RESULTS_DIR" && exec "$@") &
    generator=$!
    NAMES[$generator]=load SIGNALS[$generator]=TERM
    wait -n -p ended "${!NAMES[@]}" || status=$?
    [[ $ended == "$generator" ]] || alive
    unset "NAMES[$generator]"
    return "$status"
}

# --- LMCache's settings ---

in_yaml() { # text as it stands between double quotes in YAML
    local text=${1//\\/\\\\}
    printf '%s' "${text//\"/\\\"}"
}

printf '%s' '# LMCache settings of deployment vllm-separate-1p1d-tiny (d1-0123456789abcdef), written by servix.
chunk_size: 256
controller_pull_url: "'"$(in_yaml "$FRONTEND_NODE")"':8300"
extra_config:
  nixl_backend: "POSIX"
  nixl_path: "'"$(in_yaml "$STORAGE_CACHE_DIR")"'/a b"
  "off": null
lmcache_worker_ports: [8788, 8789]
local_cpu: true
max_local_cpu_size: 6.0
' >"$RESULTS_DIR/lmcache.yaml"

# --- processes ---

DEADLINE=$((SECONDS + 600))

# infrastructure on node 0
start etcd TERM "$RESULTS_DIR" env --default-signal \
    CUDA_VISIBLE_DEVICES='' \
    setsid etcd \
    --data-dir "$RESULTS_DIR"/etcd

wait_for etcd seen_http http://"$NODE_0":2379/health
# frontend on node 0
start frontend INT "$RESULTS_DIR" env --default-signal \
    CUDA_VISIBLE_DEVICES='' \
    DYN_FILE_KV="$RESULTS_DIR"/kv \
    HOME="$RESULTS_DIR"/home \
    setsid python -m dynamo.frontend \
    --http-host "$NODE_0" \
    --http-port 8000

# decode on node 0, GPUs 0 1
start decode-0 TERM "$RESULTS_DIR" env --default-signal \
    CUDA_VISIBLE_DEVICES=0,1 \
    DYN_FILE_KV="$RESULTS_DIR"/kv \
    DYN_SYSTEM_HOST="$NODE_0" \
    DYN_SYSTEM_PORT=9090 \
    HOME="$RESULTS_DIR"/home \
    LMCACHE_CONFIG_FILE="$RESULTS_DIR"/lmcache.yaml \
    setsid python -m dynamo.mocker \
    --model-path "$SERVIX_DIR"/config/model/files/tiny \
    --model-name servix/tiny \
    --disaggregation-mode decode \
    --extra '{"a b": "it'"'"'s $HOME"}'

# prefill on node 1, GPUs 0 1
start prefill-0 TERM "$RESULTS_DIR" env --default-signal \
    CUDA_VISIBLE_DEVICES=0,1 \
    DYN_FILE_KV="$RESULTS_DIR"/kv \
    DYN_SYSTEM_HOST="$NODE_1" \
    DYN_SYSTEM_PORT=9090 \
    HOME="$RESULTS_DIR"/home \
    LMCACHE_CONFIG_FILE="$RESULTS_DIR"/lmcache.yaml \
    setsid python -m dynamo.mocker \
    --model-path "$SERVIX_DIR"/config/model/files/tiny \
    --model-name servix/tiny \
    --disaggregation-mode prefill \
    --extra '{"a b": "it'"'"'s $HOME"}'

wait_for instances seen_instances http://"$NODE_0":8000/health 'backend=1' 'prefill=1'
wait_for model seen_model http://"$NODE_0":8000/v1/models servix/tiny
wait_for completion seen_completion http://"$NODE_0":8000/v1/chat/completions '{"model": "servix/tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}'

# --- point 1: aiperf-2phases ---

RESULTS_DIR=$STACK_DIR/point-1

echo 'point aiperf-2phases, phase round_1'
mkdir -p -- "$RESULTS_DIR"/artifacts/round_1
load env --default-signal \
    --unset=HF_HUB_OFFLINE \
    AIPERF_LOG='a; b' \
    timeout --kill-after=10 3600 aiperf profile \
    --model servix/tiny \
    --url http://"$NODE_0":8000 \
    --concurrency 2 \
    --artifact-dir "$RESULTS_DIR"/artifacts/round_1 ||
    fail 'phase round_1 failed'
timeout --kill-after=10 120 bash -c 'echo '"'"'between rounds'"'"' >> '"${RESULTS_DIR@Q}"/notes ||
    fail 'the command after phase round_1 failed'
DEADLINE=$((SECONDS + 120))
wait_for completion seen_completion http://"$NODE_0":8000/v1/chat/completions '{"model": "servix/tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}'

echo 'point aiperf-2phases, phase round_2'
mkdir -p -- "$RESULTS_DIR"/artifacts/round_2
load env --default-signal \
    --unset=HF_HUB_OFFLINE \
    AIPERF_LOG='a; b' \
    timeout --kill-after=10 3600 aiperf profile \
    --model servix/tiny \
    --url http://"$NODE_0":8000 \
    --concurrency 4 \
    --artifact-dir "$RESULTS_DIR"/artifacts/round_2 ||
    fail 'phase round_2 failed'
exit "$STATUS"
