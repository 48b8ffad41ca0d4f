#!/usr/bin/env bash
# What a person would write to get one number out of the default deployment, with nothing but bash and curl:
# frontend, decode and prefill on loopback addresses of their own, AIPerf once, everything stopped.
#
#   by_hand.sh RESULTS_DIR SUBNET MODEL_DIR REQUESTS OUTPUT_TOKENS CONCURRENCY [STARTUP_TIME]
#
# SUBNET is like 127.9.1, CONCURRENCY like 2 or 2,4,8 (AIPerf then measures one after the other), STARTUP_TIME
# seconds that a model takes to load. Times (seconds since the epoch) are left in RESULTS_DIR/marks.

set -euo pipefail
results=$1 node_0=$2.10 node_1=$2.11 model=$3 requests=$4 output_tokens=$5 concurrency=$6
slow=(${7:+--startup-time "$7"})
mkdir -p "$results/artifacts" "$results/home"
cd "$results"

mark() { echo "$1 $EPOCHREALTIME" >>"$results/marks"; }

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
trap 'exit 143' TERM

common=(
    DYN_DISCOVERY_BACKEND=file DYN_REQUEST_PLANE=tcp DYN_EVENT_PLANE=zmq DYN_FILE_KV="$results/kv"
    DYN_HEALTH_CHECK_ENABLED=true HF_HUB_OFFLINE=1 HOME="$results/home"
)
on() { # address
    hosts=(
        DYN_SYSTEM_HOST="$1" DYN_TCP_RPC_HOST="$1" DYN_TCP_RESPONSE_STREAM_HOST="$1" DYN_EVENT_PLANE_HOST="$1"
    )
}
worker=(DYN_SYSTEM_PORT=9090 VLLM_NIXL_SIDE_CHANNEL_PORT=5557)

mark launch
on "$node_0"
env "${common[@]}" "${hosts[@]}" CUDA_VISIBLE_DEVICES= \
    python -m dynamo.frontend --http-host "$node_0" --http-port 8000 >frontend.log 2>&1 &
pids+=($!)
env "${common[@]}" "${hosts[@]}" "${worker[@]}" CUDA_VISIBLE_DEVICES=0 \
    python -m dynamo.mocker --model-path "$model" --model-name servix/tiny --engine-type vllm \
    --disaggregation-mode decode --data-parallel-size 1 --speedup-ratio 10.0 "${slow[@]}" >decode.log 2>&1 &
pids+=($!)
on "$node_1"
env "${common[@]}" "${hosts[@]}" "${worker[@]}" CUDA_VISIBLE_DEVICES=0 \
    python -m dynamo.mocker --model-path "$model" --model-name servix/tiny --engine-type vllm \
    --disaggregation-mode prefill --data-parallel-size 1 --speedup-ratio 10.0 "${slow[@]}" >prefill.log 2>&1 &
pids+=($!)

ask='{"model": "servix/tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}'
until [[ $(curl -s -o /dev/null -w '%{http_code}' --noproxy '*' -H 'Content-Type: application/json' \
    -d "$ask" "http://$node_0:8000/v1/chat/completions") == 200 ]]; do
    kill -0 "${pids[@]}"
    sleep 0.1
done
mark ready

NO_PROXY=$node_0 aiperf profile --model servix/tiny --url "http://$node_0:8000" --tokenizer "$model" \
    --artifact-dir "$results/artifacts" --endpoint-type chat --streaming --use-server-token-count \
    --concurrency "$concurrency" --request-count "$requests" --synthetic-input-tokens-mean 300 \
    --synthetic-input-tokens-stddev 0 --output-tokens-mean "$output_tokens" --output-tokens-stddev 0 \
    --extra-inputs '{"ignore_eos": true}' --random-seed 7 --request-timeout-seconds 600 --ui none \
    --export-level records --no-server-metrics --no-gpu-telemetry >aiperf.log 2>&1
mark load_end

kill "${pids[@]}"
wait "${pids[@]}"
mark gone
