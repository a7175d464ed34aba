{{/*
Names, labels and versions.

Every template of this library takes the chart's `$`, or a dict with it as `root` and, where a template says so, more
keys. The sidecar's values are `values` of that dict, else .Values.modelSidecar (an app's chart), else .Values (the chart
model-sidecar).
*/}}

{{/* Fails where they are not the library's values. Takes the values; returns nothing. */}}
{{- define "model-sidecar.valuesAreThere" -}}
{{- if not (hasKey . "sidecar") -}}
{{- fail "the library's values are missing: depend on model-sidecar-lib with `alias: modelSidecar`" -}}
{{- end -}}
{{- end -}}

{{/* The version of the sidecar that these templates belong to, and the image's default tag. An application's chart has
an appVersion of its own, so it can't be read from there. */}}
{{- define "model-sidecar.version" -}}0.1.0{{- end -}}

{{/* The common name of the ConfigMaps. Never the release's name: pods of any chart must find them. */}}
{{- define "model-sidecar.fullname" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $values.fullnameOverride | default "model-sidecar" -}}
{{- end -}}

{{/* Labels of a pod that has the sidecar: what PodMonitor, NetworkPolicy and the operators' commands select by. */}}
{{- define "model-sidecar.labels" -}}
model-sidecar.io/injected: "true"
{{- end -}}

{{/* Annotations of a pod that has the sidecar. More key: `by`, how it came: include (default), policy or webhook. */}}
{{- define "model-sidecar.annotations" -}}
model-sidecar.io/injected-by: {{ .by | default "include" }}
model-sidecar.io/version: {{ include "model-sidecar.version" . | quote }}
{{- end -}}

{{/* Labels of the objects that a chart makes. */}}
{{- define "model-sidecar.chartLabels" -}}
{{- $root := .root | default . -}}
app.kubernetes.io/name: model-sidecar
app.kubernetes.io/instance: {{ $root.Release.Name | trunc 63 | quote }}
app.kubernetes.io/version: {{ include "model-sidecar.version" . | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | quote }}
{{- end -}}

{{/* The Kubernetes version to render for. `kubeVersionOverride` is for renderers that don't ask the cluster. */}}
{{- define "model-sidecar.kubeVersion" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- /* Some clouds call a minor version "30+", and people copy it. */ -}}
{{- $version := $values.kubeVersionOverride | default $root.Capabilities.KubeVersion.Version | trimSuffix "+" -}}
{{- if not (semverCompare ">=1.28.0-0" $version) -}}
{{- fail (printf "Kubernetes %s is too old: Model Sidecar needs 1.28 or later" $version) -}}
{{- end -}}
{{- $version -}}
{{- end -}}

{{/* "true" where the sidecar is a native one (an init container that keeps running), else "false": a classic container.
Native sidecars are on by default from Kubernetes 1.29. */}}
{{- define "model-sidecar.native" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $version := include "model-sidecar.kubeVersion" . -}}
{{- $choice := toString $values.nativeSidecar -}}
{{- if eq $choice "auto" -}}
{{- semverCompare ">=1.29.0-0" $version -}}
{{- else -}}
{{- eq $choice "true" -}}
{{- end -}}
{{- end -}}

{{/* The image's reference. A digest beats the tag. */}}
{{- define "model-sidecar.image" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $image := $values.image -}}
{{- $name := $image.repository -}}
{{- if $image.registry -}}{{- $name = printf "%s/%s" $image.registry $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default (include "model-sidecar.version" .)) -}}
{{- end -}}
{{- end -}}

{{/* The `envFrom` source with the SDKs' variables, as one object. It must be a container's FIRST source: whatever the
app sets itself, by a later source or by `env`, then wins. */}}
{{- define "model-sidecar.envFrom" -}}
configMapRef:
  name: {{ include "model-sidecar.fullname" . }}-env
{{- end -}}
