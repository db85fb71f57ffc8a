{{/* Sizes and times that follow from the configuration. */}}

{{/* MiB of memory, request and limit in one. Kubernetes ends the whole container for what is over it, so room for the
     version that loads beside the others is in it. docs/kubernetes.md has the same sum in words. */}}
{{- define "canary-router.memoryMiB" -}}
{{- $memory := .Values.memory -}}
{{- if $memory.limitMiB -}}
{{- $memory.limitMiB | int64 -}}
{{- else -}}
{{- $unsent := dig "unsent_answers_mib" 512 .Values.server | int64 -}}
{{- $sum := add $memory.gatewayMiB .Values.sharedMemoryMiB $unsent | int64 -}}
{{- $loading := 0 | int64 -}}
{{- range $name, $written := (include "canary-router.written" . | fromJson).models -}}
{{- $model := default dict $written -}}
{{- $worker := default $memory.workerMiB $model.load_memory_mib | int64 -}}
{{- $worker = default 0 $model.worker_memory_mib | int64 | add $worker | int64 -}}
{{- $version := mul $worker (default 1 $model.workers) | int64 -}}
{{- /* A canary without a share is loaded, too. */ -}}
{{- $versions := merge (dict "production" 0 "canary" 0) (default dict $model.split) | len -}}
{{- if gt (default 0 $model.keep_previous_seconds | float64) 0.0 -}}
{{- $versions = add1 $versions -}}
{{- end -}}
{{- if eq (default "shared" $model.environment) "own" -}}
{{- $version = add $version $memory.environmentMiB | int64 -}}
{{- end -}}
{{- if kindIs "map" $model.where -}}
{{- $version = 0 | int64 -}}{{/* They run elsewhere. */}}
{{- end -}}
{{- $sum = mul $versions $version | add $sum | int64 -}}
{{- $loading = max $loading $version | int64 -}}
{{- end -}}
{{- add $sum $loading -}}
{{- end -}}
{{- end -}}

{{/* GiB of the cache: both bounds, and a fifth more for what comes before the oldest goes. */}}
{{- define "canary-router.cacheGiB" -}}
{{- if .Values.cache.sizeGiB -}}
{{- .Values.cache.sizeGiB | int64 -}}
{{- else -}}
{{- $written := include "canary-router.written" . | fromJson -}}
{{- $bound := default 20 (default dict $written.registry).cache_max_gib | float64 -}}
{{- range $name, $model := $written.models -}}
{{- if eq (default "shared" (default dict $model).environment) "own" -}}
{{- $bound = addf (default 20 (default dict $written.registry).cache_max_gib) (default 20 (default dict $written.environments).max_gib) -}}
{{- end -}}
{{- end -}}
{{- mulf $bound 1.2 | ceil | int64 -}}
{{- end -}}
{{- end -}}

{{/* Seconds from the first word of an end to SIGKILL: the pause, the drain, and workers that end on a busy node. */}}
{{- define "canary-router.graceSeconds" -}}
{{- $drain := dig "drain_seconds" 15 .Values.server | float64 | ceil | int64 -}}
{{- add .Values.preStopSeconds $drain 10 -}}
{{- end -}}
