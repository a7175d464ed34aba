{{/*
The sidecar's container: complete, native or classic. It goes FIRST, into initContainers where "model-sidecar.native" is
"true" and into containers where it is "false".

No preStop in either shape. A native sidecar gets SIGTERM once the app's containers have ended. A classic one gets it
together with them and must serve on: it does, until no request came for `drain.idle`, which "model-sidecar.settings"
makes longer there.
*/}}
{{- define "model-sidecar.container" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $sidecar := $values.sidecar -}}
name: model-sidecar
image: {{ include "model-sidecar.image" . | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args:
  - serve
  - --config
  - /etc/model-sidecar/config/sidecar.yaml
{{- range $sidecar.extraArgs }}
  - {{ . | quote }}
{{- end }}
{{- if eq (include "model-sidecar.native" .) "true" }}
restartPolicy: Always
{{- end }}
ports:
  - name: sidecar-probe
    containerPort: 4012
    protocol: TCP
{{- with include "model-sidecar.containerEnv" . }}
env:
  {{- . | nindent 2 }}
{{- end }}
startupProbe:
  httpGet: {path: /readyz, port: sidecar-probe}
  {{- toYaml $sidecar.startupProbe | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: sidecar-probe}
  {{- toYaml $sidecar.readinessProbe | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: sidecar-probe}
  {{- toYaml $sidecar.livenessProbe | nindent 2 }}
resources:
  {{- toYaml $sidecar.resources | nindent 2 }}
securityContext:
  {{- toYaml $sidecar.securityContext | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: model-sidecar-config
    mountPath: /etc/model-sidecar/config
    readOnly: true
  - name: model-sidecar-pins
    mountPath: /etc/model-sidecar/pins
    readOnly: true
  - name: model-sidecar-last-good
    mountPath: /etc/model-sidecar/last-good
    readOnly: true
{{- range include "model-sidecar.secretFiles" . | fromYamlArray }}
  - name: {{ .volume }}
    mountPath: {{ .path }}
    readOnly: true
{{- end }}
{{- end -}}

{{/* The pod's volumes, as a list. All are directories: a mount by subPath would never see a swap. */}}
{{- define "model-sidecar.volumes" -}}
{{- $name := include "model-sidecar.fullname" . -}}
- name: model-sidecar-config
  configMap:
    name: {{ $name }}-config
- name: model-sidecar-pins
  configMap:
    name: {{ $name }}-pins
- name: model-sidecar-last-good
  configMap:
    name: {{ $name }}-pins-previous
    optional: true
{{- range include "model-sidecar.secretFiles" . | fromYamlArray }}
- name: {{ .volume }}
  secret:
    secretName: {{ .secretName }}
{{- end }}
{{- end -}}

{{/*
The container's `env`: the providers' keys by reference, then what `sidecar.env` says. Empty where there is none. A name
must not stand twice: server-side apply refuses the pod. Two providers may share one key.
*/}}
{{- define "model-sidecar.containerEnv" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $entries := list -}}
{{- range $values.sidecar.secrets -}}
{{- if .env -}}
{{- $reference := dict "secretKeyRef" (dict "name" .secretName "key" .secretKey) -}}
{{- $entries = append $entries (dict "name" .env "valueFrom" $reference) -}}
{{- end -}}
{{- end -}}
{{- $entries = concat ($entries | uniq) $values.sidecar.env -}}
{{- $seen := dict -}}
{{- range $entries -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "the sidecar's variable %s is set twice, by sidecar.secrets or sidecar.env: keep one" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- if $entries -}}{{- toYaml $entries -}}{{- end -}}
{{- end -}}

{{/* Each Secret that is mounted, once: secretName, volume and path. */}}
{{- define "model-sidecar.secretFiles" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $names := list -}}
{{- range $values.sidecar.secrets -}}
{{- if not .env -}}{{- $names = append $names .secretName -}}{{- end -}}
{{- end -}}
{{- $files := list -}}
{{- range $names | uniq -}}
{{- $short := include "model-sidecar.secretShort" . -}}
{{- $file := dict
  "secretName" .
  "volume" (printf "model-sidecar-secret-%s" $short)
  "path" (printf "/etc/model-sidecar/secrets/%s" $short) -}}
{{- $files = append $files $file -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{/* A Secret's name as part of a volume's name, which has at most 63 characters and no dots. */}}
{{- define "model-sidecar.secretShort" -}}
{{- if or (contains "." .) (gt (len .) 42) -}}
{{- printf "%s-%s" (. | replace "." "-" | trunc 33) (sha256sum . | trunc 8) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}
