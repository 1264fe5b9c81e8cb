#!/usr/bin/env bash
# Runs llama.cpp's figures and instil's beside each other, one after the other, on an idle machine.
#
#   benches/peers.sh BIN_DIR MODEL.gguf [ROWS_DIR]
#
# BIN_DIR holds llama-bench, llama-batched-bench and llama-quantize. ROWS_DIR, if given, holds rows.json
# and llama_server_rows.py: then valid rows a minute are measured too, also with the file requantised
# to Q4_0, for which llama.cpp has its fastest kernels. RUNS (default 3) runs each; medians are printed.
set -euo pipefail
bin=$1 model=$2 rows=${3:-}
runs=${RUNS:-3} threads=$(nproc)
instil=${INSTIL:-$(dirname "$0")/../target/release/instil}
q4_0=${TMPDIR:-/tmp}/peers-q4_0.gguf
[ -s "$q4_0" ] || "$bin/llama-quantize" --allow-requantize "$model" "$q4_0" Q4_0 >/dev/null 2>&1

for file in "$model" "$q4_0"; do
  echo "== llama.cpp, $(basename "$file")"
  "$bin/llama-bench" -m "$file" -t "$threads" -p 512 -n 128 -r "$runs" -o md 2>/dev/null | grep -E 'pp|tg'
  "$bin/llama-batched-bench" -m "$file" -t "$threads" -c 16384 -npp 128 -ntg 64 -npl 1,8,32 2>/dev/null | grep '|'
done
echo "== instil, $(basename "$model")"
"$instil" -q bench decode --model "$model" --prompt 512 --tokens 1 --batches 1 --runs "$runs"
"$instil" -q bench decode --model "$model" --prompt 1 --tokens 128 --batches 1 --runs "$runs"
"$instil" -q bench decode --model "$model" --prompt 128 --tokens 64 --batches 1,8,32 --runs "$runs" --profile

if [ -n "$rows" ]; then
  for file in "$model" "$q4_0"; do
    for slots in 8 16 32; do
      for _ in $(seq "$runs"); do
        python3 "$rows/llama_server_rows.py" "$bin" "$file" --rows 64 --slots "$slots" | sed "s|^|$(basename "$file") |"
      done
    done
  done
  "$instil" -q bench rows "$rows/rows.json" --model "$model" --runs "$runs" --json
  "$instil" -q bench rows "$rows/rows.json" --model "$model" --runs "$runs" --json --free
fi
