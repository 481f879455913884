#!/bin/sh
# Trains once per value of one option of gpt-train and prints each value's last validation loss, time and milliseconds per step.
#   tune.sh OPTION VALUE... [-- OPTIONS OF gpt-train]
# GPT_TRAIN names the program (default: where the runner leaves it), GPT_JOBS how many trainings run at once (default 1).
set -eu
here=$(dirname "$0")
program=${GPT_TRAIN:-${CARGO_TARGET_DIR:-$here/../../../target}/release/gpt-trainer/gpt-train}
if [ $# -lt 2 ]; then
    echo "tune.sh: give an option and its values, for example: tune.sh lr 2e-3 4e-3 -- --method adamw" >&2
    exit 2
fi
if [ ! -x "$program" ]; then
    echo "tune.sh: no program '$program'; run 'cargo run --release -p gpt -- --quick' first, or set GPT_TRAIN" >&2
    exit 2
fi
option=$1
shift
values=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    values="$values $1"
    shift
done
[ $# -eq 0 ] || shift

# An evaluation costs as much as 30 steps, so only the last step is evaluated; a later --eval-every wins.
printf '%s\n' $values | xargs -P "${GPT_JOBS:-1}" -I VALUE sh -c '
    program=$1 data=$2 option=$3 value=$4
    shift 4
    last=$("$program" --data "$data" --eval-every 1000000000 "--$option" "$value" "$@" 2>&1 | grep -v "\"event\":\"\(start\|step\|end\)\"" | tail -n 1)
    printf "%s=%s %s\n" "$option" "$value" "$last"
' sh "$program" "$here/data" "$option" VALUE "$@"
