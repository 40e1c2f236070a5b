#!/bin/bash
# An evaluation inside a Slurm allocation, from the folder that holds the environment `.venv`:
#   sbatch docker/slurm.sh --backbone mine.py:build --suite lovt-18 --data /data --out /shared/results --checkpoints /shared/checkpoints
# All that follows the file's name goes to `lobe run`. Submit the same line again after the time is over: it goes on.
# Once, in your home folder, which all nodes see: (umask 077; ray get-auth-token --generate > /dev/null)
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=48:00:00
#SBATCH --signal=B:INT@300
set -euo pipefail

source "${LOBE_VENV:-$SLURM_SUBMIT_DIR/.venv}/bin/activate" # the same path on every node
export RAY_AUTH_MODE=token
export LOBE_CACHE=${LOBE_CACHE:-/var/tmp/lobe-$USER} # a disk of each node: images are decoded once a node
cores=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a node do not meet
address=$head:$port

# A step in place of a job of this script. Since Slurm 22.05, srun takes --cpus-per-task from its command line only.
on() { exec srun --nodes="$1" --ntasks="$1" --ntasks-per-node=1 --cpus-per-task="$cores" "${@:2}"; }

end() {
    trap - EXIT
    local running
    running=$(jobs -p)
    [[ -z $running ]] || kill $running 2> /dev/null || true # one word a job
    wait || true
}
trap end EXIT

on 1 --nodelist="$head" ray start --head --port="$port" --ray-client-server-port=$((port + 10000)) \
    --include-dashboard=false --num-cpus="$cores" --block &

answers() { timeout 30 ray health-check --address "$address" > /dev/null 2>&1; }
for _ in {1..20}; do
    answers && break
    sleep 2
done
answers || {
    echo "No Ray answers on $address: see above what it said." >&2
    exit 2
}

if ((${#nodes[@]} > 1)); then # they join while the evaluation runs
    on $((${#nodes[@]} - 1)) --exclude="$head" ray start --address="$address" --num-cpus="$cores" --block &
fi

# Five minutes before the time is over Slurm interrupts this script, which passes it on: the driver ends as with Ctrl-C.
driver= early=
trap 'early=yes; [[ -z $driver ]] || { early=; kill -TERM "$driver" 2> /dev/null || true; }' INT TERM
lobe run "$@" --address "$address" &
driver=$!
[[ -z $early ]] || kill -TERM "$driver" 2> /dev/null || true # the signal came before there was a driver to tell
while kill -0 "$driver" 2> /dev/null; do # a signal ends the wait, not the driver
    wait "$driver" || true
done
code=0
wait "$driver" || code=$? # bash knows still how one that is gone has ended
exit "$code"
