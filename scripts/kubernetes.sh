#!/usr/bin/env bash
# Runs a job script of Snakemake's cluster-generic executor as a Kubernetes job (docs/scaling.md).
#   kubernetes.sh submit CORES MIB MINUTES GPUS JOBSCRIPT     prints the job's name
#   kubernetes.sh status NAME                                 prints running, success or failed
# All pods see the same volume (PREFVEC_K8S_CLAIM) at the same path (PREFVEC_K8S_MOUNT), which holds the
# repository, its environment and PREFVEC_CACHE; PREFVEC_K8S_IMAGE needs nothing but a C library like the
# environment's (python:3.11-slim, or a CUDA image). Further: PREFVEC_K8S_NAMESPACE, PREFVEC_K8S_GPU.
set -euo pipefail
namespace=${PREFVEC_K8S_NAMESPACE:-default}

submit() {
  local cores=$1 mib=$2 minutes=$3 gpus=$4 script=$5 name gpu_line=""
  name="prefvec-$(basename "$script" .sh | tr -c 'a-z0-9\n' '-' | cut -c1-30)-$$-$RANDOM"
  [ "$gpus" = 0 ] || gpu_line="${PREFVEC_K8S_GPU:-nvidia.com/gpu}: $gpus"
  kubectl --namespace "$namespace" create -f - >&2 <<YAML
apiVersion: batch/v1
kind: Job
metadata:
  name: $name
  labels: {app: prefvec}
spec:
  backoffLimit: 0
  activeDeadlineSeconds: $((minutes * 60))
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels: {app: prefvec}
    spec:
      restartPolicy: Never
      containers:
        - name: stage
          image: ${PREFVEC_K8S_IMAGE:?name a container image}
          command: [sh, "$script"]
          resources:
            requests: {cpu: "$cores", memory: ${mib}Mi}
            limits:
              memory: ${mib}Mi
              $gpu_line
          volumeMounts: [{name: shared, mountPath: "${PREFVEC_K8S_MOUNT:?path of the volume}"}]
      volumes:
        - name: shared
          persistentVolumeClaim: {claimName: "${PREFVEC_K8S_CLAIM:?name of the volume claim}"}
YAML
  echo "$name"
}

status() {
  local conditions
  conditions=$(kubectl --namespace "$namespace" get job "$1" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}')
  case $conditions in
    *Failed*) echo failed ;;
    *Complete*) echo success ;;
    *) echo running ;;
  esac
}

"$@"
