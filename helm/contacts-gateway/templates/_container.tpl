{{/* The container and its volumes, the same in every mode. */}}

{{- define "contacts-gateway.container" -}}
{{- include "contacts-gateway.check" . -}}
{{- $settings := include "contacts-gateway.settings" . | fromJson -}}
{{- $listen := $settings.listen.address -}}
{{- $admin := $settings.admin.address -}}
{{- $tls := dig "tls" dict $settings.admin -}}
{{- $private := ne (dig "certificate_file" "" $tls) "" -}}
{{- /* Where the kubelet does not come, or has no certificate to show, the program asks itself. */ -}}
{{- $inside := or (include "contacts-gateway.isLoopback" $admin) (dig "client_ca_file" "" $tls) -}}
- name: contacts-gateway
  image: {{ include "contacts-gateway.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- if and (eq .Values.mode "sidecar") .Values.sidecar.native }}
  # Started before the application, which waits for the startup probe, and ended after it.
  restartPolicy: Always
  {{- end }}
  args:
    - serve
    - --config
    - /etc/contacts-gateway/gateway.toml
    {{- with .Values.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env:
    # The image sets both, and the environment goes before the settings file.
    - name: CONTACTS_GATEWAY__LISTEN__ADDRESS
      value: {{ $listen | quote }}
    - name: CONTACTS_GATEWAY__ADMIN__ADDRESS
      value: {{ $admin | quote }}
    {{- if .Values.configExistingSecretName }}
    # The mode's, which the file of another origin does not know.
    - name: CONTACTS_GATEWAY__LISTEN__DRAIN_DELAY
      value: {{ $settings.listen.drain_delay | quote }}
    {{- end }}
    {{- if and $private $inside }}
    # For the probes, which read no settings file: a mistake in a new one must not end what runs by the one before.
    {{- range $key, $file := $tls }}
    - name: CONTACTS_GATEWAY__ADMIN__TLS__{{ upper $key }}
      value: {{ $file | quote }}
    {{- end }}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- if not (include "contacts-gateway.isLoopback" $listen) }}
    - name: contacts
      containerPort: {{ include "contacts-gateway.port" $listen }}
    {{- end }}
    - name: contacts-admin
      containerPort: {{ include "contacts-gateway.port" $admin }}
  {{- range $probe, $path := dict "startupProbe" "/ready" "livenessProbe" "/live" "readinessProbe" "/ready" }}
  {{- with index $.Values $probe }}
  {{ $probe }}:
    {{- if $inside }}
    exec:
      command: [/contacts-gateway, health]
    {{- else }}
    httpGet:
      path: {{ $path }}
      port: contacts-admin
      {{- if $private }}
      scheme: HTTPS
      {{- end }}
    {{- end }}
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    {{- include "contacts-gateway.volumeMounts" . | nindent 4 }}
{{- end -}}

{{/* Folders, not single files: what is mounted by subPath never changes in a running container. */}}
{{- define "contacts-gateway.volumeMounts" -}}
- name: contacts-gateway-settings
  mountPath: /etc/contacts-gateway
  readOnly: true
{{- range $i, $secret := .Values.existingSecrets }}
- name: contacts-gateway-secret-{{ $i }}
  mountPath: /run/secrets/contacts-gateway/{{ $secret }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "contacts-gateway.volumes" -}}
- name: contacts-gateway-settings
  {{- if .Values.configExistingSecretName }}
  secret:
    secretName: {{ .Values.configExistingSecretName | toYaml }}
  {{- else }}
  configMap:
    name: {{ include "contacts-gateway.fullname" . | toYaml }}
  {{- end }}
{{- range $i, $secret := .Values.existingSecrets }}
- name: contacts-gateway-secret-{{ $i }}
  secret:
    secretName: {{ $secret | toYaml }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where callers find it, in either mode. */}}
{{- define "contacts-gateway.ownUrl" -}}
{{- $settings := include "contacts-gateway.settings" . | fromJson -}}
{{- ternary "https" "http" (ne (dig "tls" "certificate_file" "" $settings.listen) "") -}}
{{- if and (eq .Values.mode "sidecar") (include "contacts-gateway.isLoopback" $settings.listen.address) -}}
://{{ $settings.listen.address }}
{{- else if eq .Values.mode "sidecar" -}}
://127.0.0.1:{{ include "contacts-gateway.port" $settings.listen.address }}
{{- else -}}
://{{ include "contacts-gateway.fullname" . }}.{{ .Release.Namespace }}:{{ .Values.service.port }}
{{- end -}}
{{- end -}}
