{{/*
sidecar.yaml, from `sidecar.settings`. The chart adds what follows from its own mounts and from `sidecar.secrets`; it
never changes what the values say. More keys: `pinsKey` and `lastGoodKey`, the files' names in the mounted ConfigMaps.
*/}}
{{- define "model-sidecar.settings" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $settings := deepCopy $values.sidecar.settings -}}
{{- $key := include "model-sidecar.pinsKey" . -}}
{{- $_ := set $settings "pins" (printf "../pins/%s" (.pinsKey | default $key)) -}}
{{- $_ := set $settings "pins_last_good" (printf "../last-good/%s" (.lastGoodKey | default $key)) -}}
{{- if ne (include "model-sidecar.native" .) "true" -}}
{{- /* A classic sidecar is told to stop together with the app, which may still call: it waits longer for silence. */ -}}
{{- $_ := set $settings "drain" (mergeOverwrite (dict "idle" "10s") ($settings.drain | default dict)) -}}
{{- end -}}
{{- include "model-sidecar.defaultProviders" $settings.providers -}}
{{- range $index, $secret := $values.sidecar.secrets -}}
{{- $where := printf "sidecar.secrets[%d]" $index -}}
{{- $provider := get $settings.providers $secret.provider -}}
{{- if not $provider -}}
{{- fail (printf "%s: provider %q is not in sidecar.settings.providers (%s)" $where $secret.provider (keys $settings.providers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if or $provider.api_key_env $provider.api_key_file -}}
{{- fail (printf "%s: provider %q has a key already, by another entry or by its own api_key_env or api_key_file: keep one" $where $secret.provider) -}}
{{- end -}}
{{- if $secret.env -}}
{{- $_ := set $provider "api_key_env" $secret.env -}}
{{- else -}}
{{- $_ := set $provider "api_key_file" (printf "../secrets/%s/%s" (include "model-sidecar.secretShort" $secret.secretName) $secret.secretKey) -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* The pin file's name in its ConfigMap, by `pins.format`. */}}
{{- define "model-sidecar.pinsKey" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
pins.{{ $values.pins.format }}
{{- end -}}

{{/* Fails where a dialect has two providers and no default: this file's order is alphabetical, so the first is chance. */}}
{{- define "model-sidecar.defaultProviders" -}}
{{- $first := dict -}}
{{- $settled := dict -}}
{{- range $name, $provider := . -}}
{{- if $provider.default -}}{{- $_ := set $settled $provider.dialect true -}}{{- end -}}
{{- end -}}
{{- range $name, $provider := . -}}
{{- if and (hasKey $first $provider.dialect) (not (hasKey $settled $provider.dialect)) -}}
{{- $both := printf "%s and %s both speak %s" (get $first $provider.dialect) $name $provider.dialect -}}
{{- fail (printf "sidecar.settings.providers: %s: set `default: true` on one of them" $both) -}}
{{- end -}}
{{- $_ := set $first $provider.dialect $name -}}
{{- end -}}
{{- end -}}
