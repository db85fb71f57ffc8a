{{/* Names and labels. 50 characters: what is appended fits into 63. */}}
{{- define "canary-router.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "canary-router.fullname" -}}
{{- $name := include "canary-router.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "canary-router.peers" -}}
{{ include "canary-router.fullname" . }}-peers.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "canary-router.tokenSecret" -}}
{{- default (printf "%s-tokens" (include "canary-router.fullname" .)) .Values.admin.tokenSecret -}}
{{- end -}}

{{- define "canary-router.cacheClaim" -}}
{{- default (printf "%s-cache" (include "canary-router.fullname" .)) .Values.cache.existingClaim -}}
{{- end -}}

{{- define "canary-router.selector" -}}
app.kubernetes.io/name: {{ include "canary-router.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "canary-router.labels" -}}
{{ include "canary-router.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
