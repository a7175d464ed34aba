{{/* The ConfigMaps that pods mount and read, in the namespace `namespace` (default: the release's), as one YAML stream.
Nothing where `existing` says that they are there, or `enabled` that no sidecar is wanted. */}}
{{- define "model-sidecar.configmaps" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- include "model-sidecar.valuesAreThere" $values -}}
{{- if not (or $values.existing (eq (toString $values.enabled) "false")) -}}
{{- $with := dict "root" $root "values" $values "namespace" (.namespace | default $root.Release.Namespace) -}}
{{- if $values.pins.create -}}
{{- $_ := set $with "pins" (include "model-sidecar.pins.state" $with | fromJson) -}}
{{- end -}}
{{ include "model-sidecar.config" $with }}
---
{{ include "model-sidecar.env" $with }}
{{- if $values.pins.create }}
---
{{ include "model-sidecar.pins" $with }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The start of a ConfigMap. More keys: `namespace`, `suffix` of the name. */}}
{{- define "model-sidecar.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "model-sidecar.fullname" . }}-{{ .suffix }}
  namespace: {{ .namespace }}
  labels:
    {{- include "model-sidecar.chartLabels" . | nindent 4 }}
{{- end -}}

{{/* NAME-config: the settings. More keys: `namespace`; `pins`, the decision on the pin file. */}}
{{- define "model-sidecar.config" -}}
{{- $settings := omit . "pins" -}}
{{- if .pins -}}
{{- $_ := set $settings "pinsKey" (include "model-sidecar.pins.key" .pins.live) -}}
{{- $_ := set $settings "lastGoodKey" (include "model-sidecar.pins.key" .pins.previous) -}}
{{- end -}}
{{ include "model-sidecar.configmap" (merge (dict "suffix" "config") .) }}
data:
  sidecar.yaml: |
    # Made by Helm from `sidecar.settings`. Read once, at the sidecar's start.
    {{- include "model-sidecar.settings" $settings | nindent 4 }}
{{- end -}}

{{/* NAME-env: the SDKs' variables. Loopback in NO_PROXY is for containers that get a proxy from somewhere else. */}}
{{- define "model-sidecar.env" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $noProxy := join "," $values.env.noProxy -}}
{{ include "model-sidecar.configmap" (merge (dict "suffix" "env") .) }}
data:
  {{- range $name, $value := merge (dict "NO_PROXY" $noProxy "no_proxy" $noProxy) $values.env.baseUrls }}
  {{ $name }}: {{ $value | quote }}
  {{- end }}
{{- end -}}

{{/* NAME-pins, NAME-pins-previous and the history's copy. More keys: `namespace`; `pins`, the decision. */}}
{{- define "model-sidecar.pins" -}}
{{- $name := include "model-sidecar.fullname" . -}}
{{ include "model-sidecar.configmap" (merge (dict "suffix" "pins") .) }}
    model-sidecar.io/pins: live
  annotations:
    {{- toYaml .pins.live.annotations | nindent 4 }}
data:
  {{- toYaml .pins.live.data | nindent 2 }}
---
{{ include "model-sidecar.configmap" (merge (dict "suffix" "pins-previous") .) }}
    model-sidecar.io/pins: previous
  annotations:
    {{- toYaml .pins.previous.annotations | nindent 4 }}
data:
  {{- toYaml .pins.previous.data | nindent 2 }}
{{- $history := .pins.history -}}
{{- $suffix := printf "pins-%s" $history.suffix -}}
{{- $there := lookup "v1" "ConfigMap" .namespace (printf "%s-%s" $name $suffix) | default dict -}}
{{- /* A copy that an operator's command made is not this release's to take over. */ -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there -}}
{{- if and .pins.replaced (or (not $there) (eq $owner .root.Release.Name)) }}
---
{{ include "model-sidecar.configmap" (merge (dict "suffix" $suffix) .) }}
    model-sidecar.io/pins: history
  annotations:
    helm.sh/resource-policy: keep
    {{- toYaml $history.annotations | nindent 4 }}
immutable: true
data:
  {{- toYaml $history.data | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The name of the pin file in a ConfigMap's data. */}}
{{- define "model-sidecar.pins.key" -}}
{{- hasKey .data "pins.json" | ternary "pins.json" "pins.yaml" -}}
{{- end -}}
