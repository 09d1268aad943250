#!/usr/bin/env bash
# fastnoisy train over the machines of a SLURM job: one torchrun on each, which starts a process for every GPU.
#
#     sbatch --nodes 4 --gpus-per-node 8 tools/slurm.sh cifar10-nrd --data stores/cifar10 --out runs/nrd
#
# Not tried yet: no SLURM was at hand. Activate the environment that has fastnoisy before sbatch, or here.
#SBATCH --ntasks-per-node 1
#SBATCH --cpus-per-task 16
#SBATCH --signal TERM@120
#SBATCH --requeue
set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
gpus=${SLURM_GPUS_ON_NODE:-1}
# A job that is queued again has the same id: torchrun's processes then go on with the run that they find.
exec srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$gpus" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29400" -m fastnoisy train "$@"
