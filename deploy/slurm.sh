#!/bin/bash
# One job on all nodes of an allocation: a Ray cluster that begins and ends with it.
#
#     sbatch --nodes=4 --gpus-per-node=8 deploy/slurm.sh caption.yaml
#
# The job file, its paths and this environment must be on all nodes: activate the environment that has
# gemma3-batch before `sbatch`. Options of `sbatch` win over those below.
#
# Two minutes before the allocation ends, or is taken away by a job of higher priority, Slurm sends
# SIGTERM: rows in flight are saved, and the same job is put back into the queue, where it goes on.
#
#SBATCH --job-name=gemma3-batch
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

job=${1:?usage: sbatch deploy/slurm.sh JOB.yaml}
START_SECONDS=300

# A token of this allocation alone. It goes to the nodes in the environment, so no file and no
# process list shows it.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
# Python on a file system that all nodes share starts slowly: how long Ray's processes wait for a raylet.
export RAY_raylet_start_wait_time_s=$START_SECONDS

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
on_each=(--ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --export=ALL)
has=(--num-cpus="$SLURM_CPUS_ON_NODE")
if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then has+=(--num-gpus="$SLURM_GPUS_ON_NODE"); fi

steps=()
driver=
preempted=
# shellcheck disable=SC2329 # called by the trap
finish() {
    for process in $driver "${steps[@]}"; do kill "$process" 2>/dev/null || true; done
}
# shellcheck disable=SC2329
preempt() {
    preempted=1
    trap '' TERM
    if [ -z "$driver" ]; then again 143; fi
    kill -TERM "$driver" 2>/dev/null || true
}
again() {
    echo "slurm.sh: back into the queue; it goes on where it stopped"
    scontrol requeue "$SLURM_JOB_ID"
    exit "$1"
}
fail() {
    echo "slurm.sh: $1" >&2
    exit 1
}
trap finish EXIT
trap preempt TERM

# The first node's address. The port is this job's alone, should nodes be shared after all.
read -r ip _ < <(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --all-ip-addresses)
port=$((20000 + SLURM_JOB_ID % 20000))

# Without the dashboard: the driver runs here, and nobody needs to submit anything.
srun --nodes=1 --ntasks=1 --nodelist="$head" "${on_each[@]}" \
    ray start --head --node-ip-address="$ip" --port="$port" --include-dashboard=false \
    --temp-dir="/tmp/ray-$SLURM_JOB_ID" --block "${has[@]}" &
steps+=($!)
for ((waited = 0; ; waited++)); do
    if (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; then break; fi
    kill -0 "${steps[0]}" 2>/dev/null || fail "Ray ended on $head"
    ((waited < START_SECONDS)) || fail "Ray did not start on $head within $START_SECONDS s"
    sleep 1
done

if ((SLURM_JOB_NUM_NODES > 1)); then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$head" "${on_each[@]}" \
        ray start --address="$ip:$port" --block "${has[@]}" &
    steps+=($!)
fi

# A run uses the machines that are there when it starts.
export RAY_ADDRESS=$ip:$port
timeout "$START_SECONDS" python - "$SLURM_JOB_NUM_NODES" "${steps[0]}" <<'EOF' &
import os, sys, time, ray
def alive():
    try:
        ray.init(log_to_driver=False, logging_level="fatal", ignore_reinit_error=True)
        return sum(node["Alive"] for node in ray.nodes())
    except Exception:   # it is still starting
        return 0
while alive() < int(sys.argv[1]):
    time.sleep(1)
    os.kill(int(sys.argv[2]), 0)   # fails once the head has ended
EOF
steps+=($!)   # beside the script, which acts at once on a signal while it waits
wait $! || fail "not all of $SLURM_JOB_NUM_NODES nodes joined"
unset 'steps[-1]'

gemma3-batch run "$job" &
driver=$!
status=0
wait "$driver" || status=$?
if [ -n "$preempted" ] && ((status == 143)); then   # the signal ended `wait`, not the run
    status=0
    wait "$driver" || status=$?
fi
# 143: the signal came before the run had begun its rows, or after it had ended them.
if [ -n "$preempted" ] && ((status == 1 || status == 143)); then again 1; fi
exit "$status"
