{{- /* What the three ways of injection share: who asks, who can't have a sidecar, and what is put into a pod. */ -}}

{{- /* Of the things that belong to the whole cluster too: two of them at once would be one too many anyway. */ -}}
{{- define "model-sidecar.injection.name" -}}
{{- include "model-sidecar.fullname" . }}-injection
{{- end -}}

{{- /* Labels of our own objects. */ -}}
{{- define "model-sidecar.injection.labels" -}}
{{- include "model-sidecar.chartLabels" . }}
app.kubernetes.io/component: injection
{{- end -}}

{{- /*
All that a pod gets, in the form that the webhook reads. Takes a dict: `root`; `by`, "policy" or "webhook".
The container, the volumes and the variables are those of the library: what an app's chart includes.
*/ -}}
{{- define "model-sidecar.injection.parts" -}}
{{- $native := include "model-sidecar.native" .root -}}
version: 1
native: {{ eq $native "true" }}
container:
  {{- include "model-sidecar.container" .root | nindent 2 }}
volumes:
  {{- include "model-sidecar.volumes" .root | nindent 2 }}
envFrom:
  {{- include "model-sidecar.envFrom" .root | nindent 2 }}
noProxy: {{ .root.Values.env.noProxy | toJson }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
labels:
  {{- include "model-sidecar.labels" .root | nindent 2 }}
annotations:
  {{- include "model-sidecar.annotations" (dict "root" .root "by" .by) | nindent 2 }}
{{- end -}}

{{- /* The label selector of pods that ask for themselves. */ -}}
{{- define "model-sidecar.injection.podAsks" -}}
matchLabels:
  model-sidecar.io/inject: "true"
{{- end -}}

{{- /* The label selector of pods that leave it to their namespace. */ -}}
{{- define "model-sidecar.injection.podSaysNothing" -}}
matchExpressions:
- key: model-sidecar.io/inject
  operator: NotIn
  values: ["true", "false"]
{{- end -}}

{{- /*
The namespaces that are left alone, as YAML. Takes a dict: `root`; `own`, true where the release's own is one of
them.
*/ -}}
{{- define "model-sidecar.injection.excluded" -}}
{{- $all := list "kube-system" -}}
{{- if .own -}}
{{- $all = append $all .root.Release.Namespace -}}
{{- end -}}
{{- concat $all .root.Values.injection.excludedNamespaces | uniq | toYaml -}}
{{- end -}}

{{- /* What the API server asks about: pods that are being made. */ -}}
{{- define "model-sidecar.injection.rules" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE]
  resources: [pods]
  scope: Namespaced
{{- end -}}

{{- /*
Fails where another release injects already: both would take each pod that asks, and it would wait for the ConfigMaps
of the one that isn't in its namespace. Sees nothing where nothing can be looked up. Returns nothing.
*/ -}}
{{- define "model-sidecar.injection.alone" -}}
{{- $api := "admissionregistration.k8s.io/v1" -}}
{{- $own := printf "%s/%s" .Release.Namespace .Release.Name -}}
{{- range $kind := list "MutatingAdmissionPolicy" "MutatingWebhookConfiguration" -}}
{{- if $.Capabilities.APIVersions.Has (printf "%s/%s" $api $kind) -}}
{{- range (lookup $api $kind "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $by := .metadata.annotations | default dict -}}
{{- $owner := printf "%s/%s" (get $by "meta.helm.sh/release-namespace") (get $by "meta.helm.sh/release-name") -}}
{{- if and (eq (get $labels "app.kubernetes.io/name") "model-sidecar") (eq (get $labels "app.kubernetes.io/component") "injection") (ne $owner $own) -}}
{{- fail (printf "injection.mode: the release %s injects already (%s %s), for the whole cluster: list your namespaces in its `namespaces`, or set its injection.mode: none first" $owner $kind .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
