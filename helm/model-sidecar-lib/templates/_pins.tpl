{{/*
Which pin file is live, which was before, and which is kept as history.

The rule: the values' file becomes live where its generation is higher than the live one's and it is not the file that the
last upgrade had too. So an unrelated upgrade never takes a swapped fleet back, nor a rolled back one forward. What was
live becomes the previous one. Where nothing can be looked up (`helm template`, Argo CD) the values are live, and
`pins.previous` tells what was before.
*/}}

{{/*
The decision, as JSON. It looks nothing up and reads no clock. Takes a dict:
  content, format   the pin file of the values and "yaml" or "json"
  before            what `pins.previous` says; may be empty
  live, previous    the ConfigMaps in the cluster; empty dicts where there are none
  by, why, now      who changes it, why, and when (RFC 3339; may be empty)
Returns: replaced (the values' file becomes live), ignored (it differs from the live one and is not newer),
generation (the live one's), live and previous (each `data` and `annotations`), history (the same and a `suffix`).
*/}}
{{- define "model-sidecar.pins.decide" -}}
{{- $key := printf "pins.%s" .format -}}
{{- $wanted := include "model-sidecar.pins.read" .content | fromJson -}}
{{- if $wanted.problem -}}
{{- fail (printf "pins.content %s. Try: sidecar pins check FILE" $wanted.problem) -}}
{{- end -}}
{{- if and (eq .format "json") (hasKey (fromJson .content) "Error") -}}
{{- fail "pins.content is not JSON, as pins.format says: give it as JSON, or set pins.format: yaml" -}}
{{- end -}}
{{- $fresh := dict
  "model-sidecar.io/changed-by" .by
  "model-sidecar.io/why" .why
  "model-sidecar.io/generation" $wanted.generation
  "model-sidecar.io/sha256" $wanted.sha256
  "model-sidecar.io/values-sha256" $wanted.sha256 -}}
{{- if and .live .now -}}{{- $_ := set $fresh "model-sidecar.io/changed-at" .now -}}{{- end -}}
{{- $values := dict "data" (dict $key .content) "annotations" $fresh -}}
{{- $running := include "model-sidecar.pins.ofConfigMap" .live | fromJson -}}
{{- $before := include "model-sidecar.pins.ofConfigMap" .previous | fromJson -}}
{{- $same := eq (get $running.annotations "model-sidecar.io/values-sha256") $wanted.sha256 -}}
{{- $newer := gt (int64 $wanted.generation) (int64 $running.generation) -}}
{{- $replaced := or (not $running.good) (and $newer (not $same)) -}}
{{- $kept := merge (dict "model-sidecar.io/values-sha256" $wanted.sha256) $running.annotations -}}
{{- $live := ternary $values (dict "data" $running.data "annotations" $kept) $replaced -}}
{{- $previous := dict -}}
{{- if and $replaced $running.good -}}
{{- $previous = dict "data" $running.data "annotations" (omit $running.annotations "model-sidecar.io/values-sha256") -}}
{{- else if $before.good -}}
{{- $previous = dict "data" $before.data "annotations" $before.annotations -}}
{{- else if .before -}}
{{- $read := include "model-sidecar.pins.read" .before | fromJson -}}
{{- if $read.problem -}}{{- fail (printf "pins.previous %s. Try: sidecar pins check FILE" $read.problem) -}}{{- end -}}
{{- $known := dict "model-sidecar.io/generation" $read.generation "model-sidecar.io/sha256" $read.sha256 -}}
{{- $previous = dict "data" (dict $key .before) "annotations" $known -}}
{{- else -}}
{{- $previous = dict "data" $live.data "annotations" (omit $live.annotations "model-sidecar.io/values-sha256") -}}
{{- end -}}
{{- $suffix := printf "%s-%s" $wanted.generation ($wanted.sha256 | trunc 8) -}}
{{- $history := dict "suffix" $suffix "data" (dict $key .content) "annotations" (omit $fresh "model-sidecar.io/values-sha256") -}}
{{- $ignored := and (not $replaced) (ne $running.sha256 $wanted.sha256) -}}
{{- $generation := get $live.annotations "model-sidecar.io/generation" -}}
{{- dict "replaced" $replaced "ignored" $ignored "generation" $generation
  "live" $live "previous" $previous "history" $history | toJson -}}
{{- end -}}

{{/* A pin file's text → JSON with generation (as text) and sha256, or with `problem`. */}}
{{- define "model-sidecar.pins.read" -}}
{{- $file := fromYaml . -}}
{{- $generation := get $file "generation" -}}
{{- if hasKey $file "Error" -}}
{{- dict "problem" (printf "is not YAML: %s" $file.Error) | toJson -}}
{{- else if not (hasKey $file "generation") -}}
{{- dict "problem" "has no generation: add `generation: 1`, and raise it with each change" | toJson -}}
{{- else if not (and (kindIs "float64" $generation) (eq (float64 (int64 $generation)) $generation) (ge $generation 0.0)) -}}
{{- dict "problem" (printf "has a generation that is no whole number: %v" $generation) | toJson -}}
{{- else -}}
{{- dict "generation" (int64 $generation | toString) "sha256" (sha256sum .) | toJson -}}
{{- end -}}
{{- end -}}

{{/*
A pins ConfigMap → JSON with good (it holds a readable pin file), generation, sha256, data and our annotations. Not the one
about stopped variants: it is the operators' own, and Helm 4 would call it a conflict to own it too. Where somebody has
edited the file by hand, the annotations still speak of the file before, and are not taken over.
*/}}
{{- define "model-sidecar.pins.ofConfigMap" -}}
{{- $data := get . "data" | default dict -}}
{{- $key := hasKey $data "pins.json" | ternary "pins.json" "pins.yaml" -}}
{{- $read := include "model-sidecar.pins.read" (get $data $key) | fromJson -}}
{{- $annotations := dict
  "model-sidecar.io/generation" ($read.generation | default "")
  "model-sidecar.io/sha256" ($read.sha256 | default "") -}}
{{- $given := dig "metadata" "annotations" dict . -}}
{{- $noted := get $given "model-sidecar.io/sha256" -}}
{{- if and $noted (ne $noted ($read.sha256 | default "")) -}}
{{- $_ := set $annotations "model-sidecar.io/why" "edited by hand" -}}
{{- $given = pick $given "model-sidecar.io/values-sha256" -}}
{{- end -}}
{{- range $name, $value := $given -}}
{{- if and (hasPrefix "model-sidecar.io/" $name) (ne $name "model-sidecar.io/stopped") -}}{{- $_ := set $annotations $name $value -}}{{- end -}}
{{- end -}}
{{- dict
  "good" (not $read.problem)
  "generation" ($read.generation | default "0")
  "sha256" ($read.sha256 | default "")
  "data" $data
  "annotations" $annotations | toJson -}}
{{- end -}}

{{/* The decision for the namespace `namespace`: asks the cluster and the clock. */}}
{{- define "model-sidecar.pins.state" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.modelSidecar | default $root.Values -}}
{{- $name := include "model-sidecar.fullname" . -}}
{{- $live := lookup "v1" "ConfigMap" .namespace (printf "%s-pins" $name) | default dict -}}
{{- $previous := lookup "v1" "ConfigMap" .namespace (printf "%s-pins-previous" $name) | default dict -}}
{{- $why := $values.pins.why | default (printf "helm release %s, revision %d" $root.Release.Name $root.Release.Revision) -}}
{{- $now := dateInZone "2006-01-02T15:04:05Z" now "UTC" -}}
{{- include "model-sidecar.pins.decide" (dict
  "content" $values.pins.content "format" $values.pins.format "before" $values.pins.previous
  "live" $live "previous" $previous
  "by" (printf "helm/%s" $root.Release.Name) "why" $why "now" $now) -}}
{{- end -}}
