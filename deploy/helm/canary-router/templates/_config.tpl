{{/* The configuration: the operator's text, and below it the two sections that the chart knows better. */}}

{{/* What the text says, as JSON. Fails with a sentence where the chart can not go on with it. */}}
{{- define "canary-router.written" -}}
{{- $text := .Values.config -}}
{{- if not (trim $text) -}}
{{- fail "config: is empty; it is the text of your router.yaml: --set-file config=router.yaml" -}}
{{- end -}}
{{- $written := fromYaml $text -}}
{{- with $written.Error -}}
{{- fail (printf "config: is no YAML that Helm can read: %s" .) -}}
{{- end -}}
{{- range $section := list "server" "fleet" -}}
{{- if hasKey $written $section -}}
{{- fail (printf "config: has the section `%s`, which the chart writes; what of it may be chosen are the values `server` and `exchangeSeconds`" $section) -}}
{{- end -}}
{{- end -}}
{{- if not (and (kindIs "map" $written.models) $written.models) -}}
{{- fail "config: names no model; it needs at least `models: {sentiment: {}}`" -}}
{{- end -}}
{{- range $path, $part := merge (pick $written "registry" "environments") $written.models -}}
{{- if not (or (kindIs "map" $part) (kindIs "invalid" $part)) -}}
{{- fail (printf "config: what stands under `%s` is no mapping of keys" $path) -}}
{{- end -}}
{{- end -}}
{{- toJson $written -}}
{{- end -}}

{{/* The section `server`, as JSON. */}}
{{- define "canary-router.server" -}}
{{- $server := dict
      "listen" (printf "%s:8080" .Values.bind)
      "admin" (printf "%s:8081" .Values.bind)
      "admin_token_file" "/run/secrets/admin-tokens/admin-token"
      "lower_token_file" "/run/secrets/admin-tokens/lower-token"
      "state_dir" "/var/lib/canary-router/state" -}}
{{- with .Values.tls.secret -}}
{{- $_ := set $server "tls" (dict "certificate_file" "/run/secrets/traffic-tls/tls.crt" "key_file" "/run/secrets/traffic-tls/tls.key") -}}
{{- end -}}
{{- with .Values.admin.tls.secret -}}
{{- $_ := set $server "admin_tls" (dict "certificate_file" "/run/secrets/admin-tls/tls.crt" "key_file" "/run/secrets/admin-tls/tls.key") -}}
{{- else -}}
{{- if not .Values.admin.networkEncrypts -}}
{{- fail "admin: its listener is reached by other pods in plain HTTP; name a certificate in admin.tls.secret, or say admin.networkEncrypts=true where the network encrypts" -}}
{{- end -}}
{{- end -}}
{{- toJson (merge $server .Values.server) -}}
{{- end -}}

{{/* router.yaml: the operator's lines keep their numbers, comments and order, for the first model is the default one. */}}
{{- define "canary-router.routerYaml" -}}
{{- $written := include "canary-router.written" . | fromJson -}}
{{- $server := include "canary-router.server" . | fromJson -}}
{{- $peers := printf "dns:%s:8081" (include "canary-router.peers" .) -}}
{{- $fleet := dict "peers" (list $peers) "exchange_seconds" .Values.exchangeSeconds -}}
{{- $chosen := dict "server" $server "fleet" $fleet | toYaml -}}
{{- $text := printf "%s\n\n# Written by the chart.\n%s\n" (trimSuffix "\n" .Values.config) $chosen -}}
{{- $whole := fromYaml $text -}}
{{- if not (and (hasKey $whole "server") (hasKey $whole "fleet") (eq (toJson $whole.models) (toJson $written.models))) -}}
{{- fail "config: nothing can be written below it; begin its sections at the margin, one below the other, and end it with no `...`" -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* A digest of what takes a restart. Pods are replaced when it changes. Beside it only
     sizes and times that follow from the configuration replace them (_sizes.tpl). */}}
{{- define "canary-router.coldDigest" -}}
{{- $written := include "canary-router.written" . | fromJson -}}
{{- $server := include "canary-router.server" . | fromJson -}}
{{- $cold := pick $written "environments" "notify" -}}
{{- $_ := set $cold "server" (pick $server "listen" "admin" "admin_token_file" "lower_token_file" "state_dir" "tls" "admin_tls" "observe" "core_dumps") -}}
{{- $_ := set $cold "registry" (omit (default dict $written.registry) "poll_seconds" "download_timeout_seconds" "parallel_loads") -}}
{{- $models := dict -}}
{{- range $name, $model := $written.models -}}
{{- $takes := pick (default dict $model) "aliases" "threads" "environment" "environment_variables" "where" -}}
{{- /* A further role of the split is a further alias, and aliases are cold. */ -}}
{{- with omit (default dict (default dict $model).split) "production" "canary" | keys | sortAlpha -}}
{{- $_ := set $takes "roles" . -}}
{{- end -}}
{{- with $takes -}}
{{- $_ := set $models $name . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $cold "models" $models -}}
{{- toJson $cold | sha256sum -}}
{{- end -}}
