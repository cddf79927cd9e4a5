{{/* The program's settings: what the mode makes of them, the file, and what must be true of them. */}}

{{/*
What is in effect: `config` over what the mode needs, as JSON.

A native sidecar is told to leave when nobody asks any more, so it leaves fast. A container beside the application is told at
the same time as that, and a pod behind a Service before every node knows: these keep serving for a while.

Replicas are told how many they are, in case a shared store is away before it could tell them. (Its URL may stand in a variable.)
*/}}
{{- define "contacts-gateway.settings" -}}
{{- $sidecar := eq .Values.mode "sidecar" -}}
{{- $listen := dict
      "address" (ternary "127.0.0.1:8080" "0.0.0.0:8080" $sidecar)
      "drain_delay" (ternary "0s" "5s" (and $sidecar .Values.sidecar.native)) -}}
{{- $needed := dict "listen" $listen "admin" (dict "address" "0.0.0.0:9090") -}}
{{- $replicas := ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled -}}
{{- if and (not $sidecar) (gt (int $replicas) 1) -}}
{{- $_ := set $needed "allowance" (dict "fleet_size" $replicas) -}}
{{- end -}}
{{- mergeOverwrite $needed (deepCopy .Values.config) | toJson -}}
{{- end -}}

{{/*
A table as TOML: what stands on one line first, then the tables, since what follows a [heading] belongs to it. Helm's own
toToml makes 59.0 of 59, which the program refuses where it counts. JSON's strings, numbers and lists of these are TOML's too.
Takes "table", and "path", the heading of the table itself with a dot behind it.
*/}}
{{- define "contacts-gateway.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (include "contacts-gateway.isTables" $value) (kindIs "invalid" $value)) }}
{{ include "contacts-gateway.tomlKey" $key }} = {{ toRawJson $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- $heading := printf "%s%s" $path (include "contacts-gateway.tomlKey" $key) -}}
{{- if kindIs "map" $value }}

[{{ $heading }}]
{{- include "contacts-gateway.toml" (dict "table" $value "path" (printf "%s." $heading)) -}}
{{- else if include "contacts-gateway.isTables" $value -}}
{{- range $value }}

[[{{ $heading }}]]
{{- include "contacts-gateway.toml" (dict "table" . "path" (printf "%s." $heading)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "contacts-gateway.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end -}}

{{/* Not empty for a list that has entries, each of which is a table. */}}
{{- define "contacts-gateway.isTables" -}}
{{- if and (kindIs "slice" .) . }}{{ if kindIs "map" (first .) }}yes{{ end }}{{ end -}}
{{- end -}}

{{/* Host and port of an address such as "0.0.0.0:8080" or "[::]:8080". */}}
{{- define "contacts-gateway.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}
{{- define "contacts-gateway.isLoopback" -}}
{{- if or (hasPrefix "127." .) (hasPrefix "[::1]" .) }}yes{{ end -}}
{{- end -}}

{{/* A duration of the program's, such as "1h 30m" or "250ms", in milliseconds. */}}
{{- define "contacts-gateway.milliseconds" -}}
{{- $units := dict
      "ns" 0.000001 "nsec" 0.000001 "us" 0.001 "µs" 0.001 "usec" 0.001 "ms" 1 "msec" 1 "millis" 1
      "s" 1000 "sec" 1000 "secs" 1000 "second" 1000 "seconds" 1000
      "m" 60000 "min" 60000 "mins" 60000 "minute" 60000 "minutes" 60000
      "h" 3600000 "hr" 3600000 "hrs" 3600000 "hour" 3600000 "hours" 3600000
      "d" 86400000 "day" 86400000 "days" 86400000 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9][0-9.]*\\s*[A-Za-zµ]+" . -1 -}}
{{- $unit := regexFind "[A-Za-zµ]+$" . -}}
{{- if not (hasKey $units $unit) -}}
{{- fail (printf "contacts-gateway: %q is no unit of time that this chart can compare; write s, m or h" $unit) -}}
{{- end -}}
{{- $sum = addf $sum (mulf (float64 (regexFind "^[0-9.]+" .)) (get $units $unit)) -}}
{{- end -}}
{{- int64 $sum -}}
{{- end -}}

{{/* A size, Kubernetes' "192Mi" as well as the program's "64MiB", in bytes. */}}
{{- define "contacts-gateway.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "m" 1000000 "g" 1000000000 "t" 1000000000000
      "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776 -}}
{{- $text := ternary (int64 . | toString) (toString .) (kindIs "float64" .) -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- $unit := trimPrefix $number $text | trim | lower | trimSuffix "b" -}}
{{- if not (hasKey $units $unit) -}}
{{- fail (printf "contacts-gateway: %q is no size that this chart can compare; write Mi and Gi, or MiB and GiB" $text) -}}
{{- end -}}
{{- int64 (mulf (float64 $number) (get $units $unit)) -}}
{{- end -}}

{{/* What would otherwise be found out at night. Fails with what to do; gives no text. */}}
{{- define "contacts-gateway.check" -}}
{{- $settings := include "contacts-gateway.settings" . | fromJson -}}
{{- $listen := $settings.listen -}}
{{- $drain := add
      (include "contacts-gateway.milliseconds" $listen.drain_delay)
      (include "contacts-gateway.milliseconds" (default "20s" $listen.drain_for)) -}}
{{- if le (mul .Values.terminationGracePeriodSeconds 1000) $drain -}}
{{- fail (printf "contacts-gateway: terminationGracePeriodSeconds is %v, and draining may take config.listen.drain_delay (%s) + config.listen.drain_for (%s): the pod would be killed before that ends. Raise the first or lower the others"
      .Values.terminationGracePeriodSeconds $listen.drain_delay (default "20s" $listen.drain_for)) -}}
{{- end -}}
{{- $cache := dig "cache" "max_bytes" "64MiB" $settings -}}
{{- with dig "limits" "memory" "" (default dict .Values.resources) -}}
{{- if lt (include "contacts-gateway.bytes" . | int64) (mul 2 (include "contacts-gateway.bytes" $cache)) -}}
{{- fail (printf "contacts-gateway: resources.limits.memory is %v, less than twice config.cache.max_bytes (%v): with a full cache the program would be killed for want of memory. Raise the first or lower the second" . $cache) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.mode "deployment" -}}
{{- if include "contacts-gateway.isLoopback" $listen.address -}}
{{- fail (printf "contacts-gateway: config.listen.address is %s, where no Service reaches it. Say 0.0.0.0 or [::], or mode: sidecar" $listen.address) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled (include "contacts-gateway.isLoopback" $settings.admin.address) -}}
{{- fail (printf "contacts-gateway: podMonitor.enabled, but config.admin.address is %s, where no Prometheus reaches it" $settings.admin.address) -}}
{{- end -}}
{{- if and .Values.config .Values.configExistingSecretName (omit .Values.config "listen" "admin") -}}
{{- fail "contacts-gateway: configExistingSecretName is set, so of config only listen and admin may be, which the chart needs to know; the rest would be passed over. Say it in the Secret" -}}
{{- end -}}
{{- end -}}
