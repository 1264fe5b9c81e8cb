#!/usr/bin/env bash
# Runs the steps of a data set's making one after the other, on an idle machine, and prints what each costs beside
# plain generation.
#
#   benches/steps.sh SEEDS.jsonl [ROWS]
#
# Of SEEDS the first ROWS lines are used (default 20); as many rows are generated. MODEL names another model than the
# default one, RUNS (default 3) runs each step so often: times are medians, counts are the same in all runs. Loading the
# model is not counted. `judge` and `label` read the rows that `answer` kept.
set -euo pipefail
seeds=$1 rows=${2:-20}
runs=${RUNS:-3}
instil=${INSTIL:-$(dirname "$0")/../target/release/instil}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
head -n "$rows" "$seeds" >"$place/seeds.jsonl"
[ -z "${MODEL:-}" ] || export INSTIL_MODEL=$MODEL

step() { # NAME COMMAND...: the summaries of all runs into NAME.json; the last run stays in the folder NAME.
  local name=$1
  shift
  : >"$place/$name.json"
  for _ in $(seq "$runs"); do
    rm -rf "${place:?}/$name"
    "$instil" --quiet "$@" --seed 1 --json -o "$place/$name" >>"$place/$name.json"
  done
}

step generate generate -n "$rows"
step evolve evolve "$place/seeds.jsonl" --rounds 1
step answer answer "$place/seeds.jsonl"
step answer-best-of-4 answer "$place/seeds.jsonl" --best-of 4
step label label "$place/answer/records.jsonl" --attribute form=order,question
step judge judge "$place/answer/records.jsonl"

python3 - "$place" <<'PYTHON'
import json, statistics, sys

columns = ["step", "rows", "attempts", "ms a kept row", "beside generate", "tokens/s", "prompt tokens read", "shared", "share"]
print("| " + " | ".join(columns) + " |")
print("|" + "---|" * len(columns))
base = None
for name in ["generate", "evolve", "answer", "answer-best-of-4", "label", "judge"]:
    with open(f"{sys.argv[1]}/{name}.json") as file:
        runs = [json.loads(line) for line in file]
    run = runs[0]
    for key in ("accepted", "decoded", "prompt_tokens", "prompt_tokens_shared"):
        assert all(other[key] == run[key] for other in runs), f"{name}: runs differ in {key}"
    seconds = statistics.median(other["seconds"] for other in runs)
    per_row = 1000 * seconds / max(1, run["accepted"])
    base = base or per_row
    tokens = (run["sampled_tokens"] + run["forced_tokens"]) / seconds
    read, shared = run["prompt_tokens"], run["prompt_tokens_shared"]
    cells = [name, run["accepted"], run["decoded"], f"{per_row:.0f}", f"{per_row / base:.2f}", f"{tokens:.0f}",
             f"{read:,}", f"{shared:,}", f"{100 * shared / max(1, read + shared):.0f} %"]
    print("| " + " | ".join(map(str, cells)) + " |")
PYTHON
