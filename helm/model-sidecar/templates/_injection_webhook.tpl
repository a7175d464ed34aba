{{- /* The parts of the injection webhook: its labels, its DNS names and its certificate. */ -}}

{{- /* The label selector of the webhook's own pods. */ -}}
{{- define "model-sidecar.injection.webhook.selector" -}}
app.kubernetes.io/name: model-sidecar
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | quote }}
app.kubernetes.io/component: injection
{{- end -}}

{{- /* The Secret with the webhook's certificate. */ -}}
{{- define "model-sidecar.injection.webhook.secretName" -}}
{{- $certificate := .Values.webhook.certificate -}}
{{- if eq $certificate.mode "provided" -}}
{{- required "webhook.certificate.mode: provided needs webhook.certificate.secretName: the Secret with tls.crt and tls.key" $certificate.secretName -}}
{{- else -}}
{{- include "model-sidecar.injection.name" . }}-certificate
{{- end -}}
{{- end -}}

{{- /* The names by which the API server and people in the cluster call the webhook's Service, as a YAML list. */ -}}
{{- define "model-sidecar.injection.webhook.dnsNames" -}}
{{- $service := printf "%s.%s.svc" (include "model-sidecar.injection.name" .) .Release.Namespace -}}
- {{ $service }}
- {{ $service }}.cluster.local
{{- end -}}

{{- /*
The generated certificate, as a YAML dict of the Secret's data in base64: ca.crt, tls.crt, tls.key. Takes a dict:
`root`; `secret`, the Secret that the cluster has, empty where it has none. A complete one is kept: a new
certificate at each upgrade would stop the making of pods until kubelet has brought it to the webhook's pods.
Helm can't read a certificate's end, so it is made for ten years, and whoever wants another deletes the Secret
and upgrades.
*/ -}}
{{- define "model-sidecar.injection.webhook.generated" -}}
{{- $data := (.secret | default dict).data | default dict -}}
{{- if and (index $data "ca.crt") (index $data "tls.crt") (index $data "tls.key") -}}
{{- pick $data "ca.crt" "tls.crt" "tls.key" | toYaml -}}
{{- else -}}
{{- $names := include "model-sidecar.injection.webhook.dnsNames" .root | fromYamlArray -}}
{{- $ca := genCA (printf "%s CA" (include "model-sidecar.injection.name" .root)) 3650 -}}
{{- $certificate := genSignedCert (first $names) nil $names 3650 $ca -}}
ca.crt: {{ b64enc $ca.Cert }}
tls.crt: {{ b64enc $certificate.Cert }}
tls.key: {{ b64enc $certificate.Key }}
{{- end -}}
{{- end -}}

{{- /* One webhook of the configuration. Takes a dict: `root`, `name`, `path`, `caBundle` (may be empty). */ -}}
{{- define "model-sidecar.injection.webhook.call" -}}
name: {{ .name }}.injection.model-sidecar.io
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: {{ include "model-sidecar.injection.name" .root }}
    namespace: {{ .root.Release.Namespace }}
    path: {{ .path }}
    port: 443
  {{- with .caBundle }}
  caBundle: {{ . }}
  {{- end }}
failurePolicy: Fail
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
sideEffects: None
timeoutSeconds: {{ .root.Values.webhook.timeoutSeconds }}
rules:
  {{- include "model-sidecar.injection.rules" .root | nindent 2 }}
{{- end -}}
