{{/*
What other charts include. Each takes the including chart's own scope, in which this chart is the dependency
"contacts-gateway"; under an alias, give the dependency's scope: (index .Subcharts "ALIAS").

    spec:
      initContainers:
        {{- include "contacts-gateway.sidecar.initContainers" . | nindent 8 }}
      containers:
        - name: campaign
          env:
            - name: CONTACTS_URL
              value: {{ include "contacts-gateway.url" . }}
        {{- include "contacts-gateway.sidecar.containers" . | nindent 8 }}
      volumes:
        {{- include "contacts-gateway.sidecar.volumes" . | nindent 8 }}

`sidecar.native` says which of the first two gives the container; the other gives nothing. The ConfigMap comes with the
dependency, once a release, however many of its pods have the sidecar.
*/}}

{{- define "contacts-gateway.sidecar.initContainers" -}}
{{- with default . (get .Subcharts "contacts-gateway") -}}
{{- if .Values.sidecar.native }}{{ include "contacts-gateway.sidecar.container" . }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "contacts-gateway.sidecar.containers" -}}
{{- with default . (get .Subcharts "contacts-gateway") -}}
{{- if not .Values.sidecar.native }}{{ include "contacts-gateway.sidecar.container" . }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The container alone, with `restartPolicy: Always` where it is a native sidecar. */}}
{{- define "contacts-gateway.sidecar.container" -}}
{{- with default . (get .Subcharts "contacts-gateway") -}}
{{- if ne .Values.mode "sidecar" -}}
{{- fail (printf "contacts-gateway: a chart includes the sidecar, and mode is %s. Say mode: sidecar" .Values.mode) -}}
{{- end -}}
{{- if not (or .Values.config.credentials .Values.configExistingSecretName) -}}
{{- fail "contacts-gateway: the sidecar has no credentials and would answer every request with 404. Set config.credentials, and existingSecrets for the files that they name" -}}
{{- end -}}
{{- include "contacts-gateway.container" . -}}
{{- end -}}
{{- end -}}

{{- define "contacts-gateway.sidecar.volumes" -}}
{{- with default . (get .Subcharts "contacts-gateway") -}}
{{- include "contacts-gateway.volumes" . -}}
{{- end -}}
{{- end -}}

{{/* For the labels of the pod: a PodMonitor finds it by them. */}}
{{- define "contacts-gateway.sidecar.podLabels" -}}
contacts-gateway/sidecar-of: {{ .Release.Name | toYaml }}
{{- end -}}

{{/* What the application is to call instead of the vendor's host. */}}
{{- define "contacts-gateway.url" -}}
{{- with default . (get .Subcharts "contacts-gateway") -}}
{{- include "contacts-gateway.ownUrl" . -}}
{{- end -}}
{{- end -}}

{{/* The settings file as a ConfigMap, for who wants it somewhere else than in the release; the chart itself renders it once. */}}
{{- define "contacts-gateway.configmap" -}}
{{- with default . (get .Subcharts "contacts-gateway") -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "contacts-gateway.fullname" . | toYaml }}
  namespace: {{ .Release.Namespace | toYaml }}
  labels:
    {{- include "contacts-gateway.labels" . | nindent 4 }}
data:
  gateway.toml: |
    {{- include "contacts-gateway.toml" (dict "table" (include "contacts-gateway.settings" . | fromJson) "path" "") | trim | nindent 4 }}
{{- end -}}
{{- end -}}
